#include "imports.h"

#include <stdatomic.h>
#include <string.h>

#include "driver.h"
#include "flight.h"
#include "gate.h"
#include "lock.h"
#include "pool.h"
#include "token.h"

static atomic_uint_fast64_t held;
static guard_lock lock; /* a pointer becomes an entry once, however many threads open its handle */

void import_reset(void) {
  atomic_store(&held, 0);
  lock.word = 0;
}

bool import_is_held(void) { return atomic_load(&held) != 0; }

void import_refund(const ledger_entry *entry) {
  if (entry->account == ACCOUNT_JOINT) {
    share_credit_drop(entry->share, (int)entry->bytes);
  } else {
    if (entry->bytes == 0) return;
    share_release(entry->share, entry->bytes);
  }
  atomic_fetch_sub(&held, 1);
}

/* ---- one import -------------------------------------------------------------------------------------------------- */

/* Who pays: a credit, or this process (admission), or nobody where the device has no share. */
struct import {
  int credit; /* of the share */
  unsigned share;
  bool keyed;
  credit_key key;
  struct admission admission;
};

/* Before the driver is asked, with what is known of the memory: its key, its size, or neither (NULL, 0). */
static CUresult begin(struct import *import, const credit_key *key, const struct device_place *place, uint64_t bytes) {
  memset(import, 0, sizeof *import);
  import->credit = CREDIT_NONE;
  import->keyed = key != NULL;
  if (key != NULL) import->key = *key;
  if (key != NULL) import->credit = share_credit_hold(key, bytes, &import->share);
  if (import->credit != CREDIT_NONE || place == NULL || bytes == 0) return CUDA_SUCCESS;
  return admit(&import->admission, place, bytes);
}

static void cancel(struct import *import) {
  if (import->credit != CREDIT_NONE) share_credit_drop(import->share, import->credit);
  import->credit = CREDIT_NONE;
  admit_cancel(&import->admission);
}

/* Once the driver has told size and place.  False when it does not fit. */
static bool charge(struct import *import, const struct device_place *place, uint64_t bytes) {
  if (import->credit != CREDIT_NONE) return true;
  if (import->admission.charged && import->admission.place.device == place->device) return true;
  admit_cancel(&import->admission);
  return admit(&import->admission, place, bytes) == CUDA_SUCCESS;
}

/* Makes it an entry, which from now on is what gives it back; false when there is no room for one. */
static bool keep(struct import *import, ledger_entry entry) {
  const struct admission *paid = &import->admission;
  if (import->credit == CREDIT_NONE && !paid->charged) return true;
  if (import->credit == CREDIT_NONE && import->keyed) {
    import->credit = share_credit_make(paid->share, CREDIT_IMPORT, &import->key, paid->bytes);
    import->share = paid->share;
  }
  bool joint = import->credit != CREDIT_NONE;
  entry.bytes = joint ? (uint64_t)import->credit : paid->bytes;
  entry.share = (uint16_t)(joint ? import->share : paid->share);
  entry.account = joint ? ACCOUNT_JOINT : ACCOUNT_IMPORT;
  entry.references = 1;
  atomic_fetch_add(&held, 1);
  if (admit_remember(&entry)) return true;
  import_refund(&entry);
  return false;
}

/* Takes one reference away; true when it was the last one, and with it the entry. */
static bool unrefer(enum ledger_kind kind, uint64_t key, ledger_entry *last) {
  return ledger_refer(kind, key, -1) == 0 && ledger_take(kind, key, last);
}

/* ---- cuIpc* ------------------------------------------------------------------------------------------------------ */

static bool is_open(CUdeviceptr pointer) { return ledger_refer(LEDGER_IPC, pointer, 1) != UINT32_MAX; }

/* How much lies behind a pointer of others' memory, and on which device; false when the driver does not tell. */
static bool look_behind(CUdeviceptr pointer, struct device_place *place, uint64_t *bytes) {
  cuMemGetAddressRange_v2_fn *range = DRIVER(cuMemGetAddressRange_v2);
  cuPointerGetAttribute_fn *attribute = DRIVER(cuPointerGetAttribute);
  CUdeviceptr base;
  size_t size = 0;
  int ordinal;
  if (!device_current(place) || range == NULL || range(&base, &size, pointer) != CUDA_SUCCESS) return false;
  *bytes = size;
  if (attribute != NULL && attribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer) == CUDA_SUCCESS)
    place->device = ordinal;
  return true;
}

/* False when it does not fit: the handle may not stay open. */
static bool charge_opened(struct import *import, CUdeviceptr pointer) {
  struct device_place place;
  uint64_t bytes;
  if (is_open(pointer)) {
    cancel(import);
    return true;
  }
  if (!look_behind(pointer, &place, &bytes) || !charge(import, &place, bytes)) {
    cancel(import);
    return false;
  }
  GUARD_HOLD(&lock);
  if (!is_open(pointer)) return keep(import, (ledger_entry){.key = pointer, .owner = place.owner, .kind = LEDGER_IPC});
  cancel(import);
  return true;
}

static CUresult open_handle(__typeof__(&cuIpcOpenMemHandle_v2) real, CUdeviceptr *pointer, CUipcMemHandle handle,
                            unsigned int flags) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  FLIGHT;
  struct import import;
  credit_key key;
  _Static_assert(sizeof key == sizeof handle, "the whole handle is the key");
  if (!limited || pointer == NULL) return real(pointer, handle, flags);
  memcpy(&key, &handle, sizeof key);
  (void)begin(&import, &key, NULL, 0);
  CUresult result = real(pointer, handle, flags);
  if (result != CUDA_SUCCESS) cancel(&import);
  if (result != CUDA_SUCCESS || charge_opened(&import, *pointer)) return result;
  __typeof__(&cuIpcCloseMemHandle) close_handle = REAL(cuIpcCloseMemHandle);
  if (close_handle != NULL) (void)close_handle(*pointer);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

GUARD_EXPORT CUresult cuIpcOpenMemHandle(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags) {
  return open_handle(REAL(cuIpcOpenMemHandle), pointer, handle, flags);
}

GUARD_EXPORT CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *pointer, CUipcMemHandle handle, unsigned int flags) {
  return open_handle(REAL(cuIpcOpenMemHandle_v2), pointer, handle, flags);
}

GUARD_EXPORT CUresult cuIpcCloseMemHandle(CUdeviceptr pointer) {
  BEGIN_HOOK(cuIpcCloseMemHandle, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(pointer);
  struct refund refund;
  refund.found = unrefer(LEDGER_IPC, pointer, &refund.entry);
  CUresult result = real(pointer);
  if (result != CUDA_SUCCESS && !refund.found) (void)ledger_refer(LEDGER_IPC, pointer, 1);
  refund.entry.references = 1;
  return refund_end(&refund, result);
}

/* ---- pointers of other processes' pools -------------------------------------------------------------------------- */

/* The exporter's pool has paid for it, and may be gone first. */
static bool charge_pointer(CUdeviceptr pointer) {
  struct import import;
  struct device_place place;
  uint64_t bytes;
  (void)begin(&import, NULL, NULL, 0);
  if (!look_behind(pointer, &place, &bytes) || !charge(&import, &place, bytes)) return false;
  return keep(&import, (ledger_entry){.key = pointer, .owner = place.owner, .kind = LEDGER_POINTER});
}

GUARD_EXPORT CUresult cuMemPoolImportPointer(CUdeviceptr *pointer, CUmemoryPool pool, CUmemPoolPtrExportData *data) {
  BEGIN_HOOK(cuMemPoolImportPointer, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  CUresult result = real(pointer, pool, data);
  if (!limited || result != CUDA_SUCCESS || charge_pointer(*pointer)) return result;
  __typeof__(&cuMemFree_v2) release = REAL(cuMemFree_v2);
  if (release != NULL) (void)release(*pointer);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* ---- physical memory --------------------------------------------------------------------------------------------- */

/* False when the memory is not a device's. */
static bool device_of_handle(CUmemGenericAllocationHandle handle, struct device_place *place) {
  cuMemGetAllocationPropertiesFromHandle_fn *ask = DRIVER(cuMemGetAllocationPropertiesFromHandle);
  CUmemAllocationProp properties;
  bool current = device_current(place);
  place->owner = 0;
  if (ask == NULL || ask(&properties, handle) != CUDA_SUCCESS) return current;
  place->device = properties.location.id;
  return properties.location.type == CU_MEM_LOCATION_TYPE_DEVICE;
}

/* No call tells how large a handle's memory is, but only so much of it can be mapped.  0 when that does not tell either. */
static uint64_t size_of_handle(CUmemGenericAllocationHandle handle, CUdevice device) {
  cuMemAddressReserve_fn *reserve = DRIVER(cuMemAddressReserve);
  cuMemAddressFree_fn *let_free = DRIVER(cuMemAddressFree);
  __typeof__(&cuMemMap) map = REAL(cuMemMap);
  __typeof__(&cuMemUnmap) unmap = REAL(cuMemUnmap);
  __typeof__(&cuDeviceTotalMem_v2) total_of = REAL(cuDeviceTotalMem_v2);
  uint64_t granule = pool_granule(device), least = 0;
  size_t total = 0;
  CUdeviceptr at = 0;
  if (granule == 1 || reserve == NULL || let_free == NULL || map == NULL || unmap == NULL || total_of == NULL) return 0;
  if (total_of(&total, device) != CUDA_SUCCESS) return 0;
  uint64_t most = total / granule;
  if (most == 0 || reserve(&at, most * granule, 0, 0, 0) != CUDA_SUCCESS) return 0;
  for (uint64_t end = most; least < end;) {
    uint64_t middle = least + (end - least + 1) / 2;
    bool fits = map(at, middle * granule, 0, handle, 0) == CUDA_SUCCESS;
    if (fits) (void)unmap(at, middle * granule);
    if (fits) least = middle;
    if (!fits) end = middle - 1;
  }
  (void)let_free(at, most * granule);
  return least * granule;
}

static credit_key key_of(const struct token *token) { return (credit_key){.words = {token->name, token->bytes}}; }

/* Once the driver has the handle, for memory of which nobody here knew before.  False when it does not fit. */
static bool charge_handle(struct import *import, CUmemGenericAllocationHandle handle, struct token *token, int fd) {
  struct device_place place;
  if (import->credit != CREDIT_NONE) return true;
  if (!device_of_handle(handle, &place)) {
    admit_cancel(&import->admission); /* it lies with the host */
    return true;
  }
  if (token->bytes == 0) {
    uint64_t bytes = size_of_handle(handle, place.device);
    import->keyed = token_new(token, bytes) && token_write(fd, token); /* for those who import it after us */
    import->key = key_of(token);
    token->bytes = bytes;
  }
  return token->bytes == 0 || charge(import, &place, token->bytes);
}

/* A handle of unknown size is charged when it is mapped. */
static bool keep_handle(struct import *import, CUmemGenericAllocationHandle handle, bool sized) {
  ledger_entry entry = {.key = handle, .kind = LEDGER_HANDLE, .references = 1, .account = ACCOUNT_IMPORT};
  struct device_place place;
  share_set shares;
  GUARD_HOLD(&lock);
  if (ledger_refer(LEDGER_HANDLE, handle, 1) != UINT32_MAX) {
    cancel(import); /* the driver gave a handle that this process has already */
    return true;
  }
  if (sized) return keep(import, entry);
  if (!device_of_handle(handle, &place)) return true;
  return admit_shares(place.device, &shares) == CUDA_SUCCESS && (shares == 0 || admit_remember(&entry));
}

GUARD_EXPORT CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *exported,
                                                     CUmemAllocationHandleType type) {
  BEGIN_HOOK(cuMemImportFromShareableHandle, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited || handle == NULL) return real(handle, exported, type);
  struct import import;
  struct device_place place;
  struct token token = {0};
  int fd = type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ? (int)(intptr_t)exported : -1;
  bool told = token_read(fd, &token);
  credit_key key = key_of(&token);
  CUresult result = begin(&import, told ? &key : NULL, device_current(&place) ? &place : NULL, told ? token.bytes : 0);
  if (result != CUDA_SUCCESS) return result;
  result = real(handle, exported, type);
  if (result != CUDA_SUCCESS) {
    cancel(&import);
    return result;
  }
  if (!told) token.bytes = 0;
  bool fits = charge_handle(&import, *handle, &token, fd);
  if (fits && keep_handle(&import, *handle, token.bytes != 0)) return result;
  if (!fits) cancel(&import);
  __typeof__(&cuMemRelease) release = REAL(cuMemRelease);
  if (release != NULL) (void)release(*handle);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult import_admit_mapping(struct admission *admission, CUmemGenericAllocationHandle handle, uint64_t bytes) {
  ledger_entry entry;
  struct device_place place;
  *admission = (struct admission){.charged = false};
  bool imported = ledger_get(LEDGER_HANDLE, handle, &entry) && entry.account == ACCOUNT_IMPORT;
  if (!imported || entry.bytes >= bytes || !device_of_handle(handle, &place)) return CUDA_SUCCESS;
  (void)flight_begin(); /* mappings of memory that was created here charge nothing, and are none */
  CUresult result = admit(admission, &place, bytes);
  if (!admission->charged) flight_end(NULL);
  return result;
}

void import_settle_mapping(struct admission *admission, CUmemGenericAllocationHandle handle, CUresult result) {
  ledger_entry charged = {.bytes = admission->bytes, .share = (uint16_t)admission->share, .account = ACCOUNT_IMPORT};
  if (!admission->charged) return;
  atomic_fetch_add(&held, 1);
  /* Of two charges for one handle the larger one stays, the other is given back. */
  if (result == CUDA_SUCCESS) ledger_raise(LEDGER_HANDLE, handle, &charged);
  import_refund(&charged);
  flight_end(NULL);
}

/* ---- external memory: charged from its import until the object and all that was mapped from it are gone ---------- */

static void let_go(uint64_t claim) {
  ledger_entry last;
  if (unrefer(LEDGER_IMPORT, claim, &last)) import_refund(&last);
}

void import_unmapped(const ledger_entry *entry) { let_go(entry->bytes); }

/* The driver may give an object's name to another one while the memory is still mapped: the charge has a name of its own. */
static bool remember_external(struct import *import, CUexternalMemory memory) {
  static atomic_uint_fast64_t last;
  uint64_t claim = atomic_fetch_add(&last, 1) | (uint64_t)3 << 62; /* no context and no pool has such an address */
  ledger_entry object = {.key = (uintptr_t)memory, .owner = claim, .references = 1, .kind = LEDGER_EXTERNAL};
  if (!keep(import, (ledger_entry){.key = claim, .kind = LEDGER_IMPORT})) return false;
  if (admit_remember(&object)) return true;
  let_go(claim);
  return false;
}

GUARD_EXPORT CUresult cuImportExternalMemory(CUexternalMemory *memory,
                                             const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *descriptor) {
  BEGIN_HOOK(cuImportExternalMemory, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  struct device_place place;
  struct import import;
  struct token token;
  if (!limited || memory == NULL || descriptor == NULL || !device_current(&place)) return real(memory, descriptor);
  int fd = descriptor->type == CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD ? descriptor->handle.fd : -1;
  bool told = token_read(fd, &token) || (token_new(&token, descriptor->size) && token_write(fd, &token));
  credit_key key = key_of(&token); /* read now: the driver keeps the descriptor */
  CUresult result = begin(&import, told ? &key : NULL, &place, told ? token.bytes : descriptor->size);
  if (result != CUDA_SUCCESS) return result;
  result = real(memory, descriptor);
  if (result != CUDA_SUCCESS) cancel(&import);
  bool charged = import.credit != CREDIT_NONE || import.admission.charged;
  if (result != CUDA_SUCCESS || !charged || remember_external(&import, *memory)) return result;
  __typeof__(&cuDestroyExternalMemory) destroy = REAL(cuDestroyExternalMemory);
  if (destroy != NULL) (void)destroy(*memory);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Before the driver maps: another thread may destroy the object right after.  0 when nobody was charged for it. */
static uint64_t hold_claim(CUexternalMemory memory) {
  ledger_entry object;
  if (!ledger_get(LEDGER_EXTERNAL, (uintptr_t)memory, &object)) return 0;
  return ledger_refer(LEDGER_IMPORT, object.owner, 1) != UINT32_MAX ? object.owner : 0;
}

static CUresult mapped(uint64_t claim, CUresult result, enum ledger_kind kind, uint64_t key) {
  struct device_place place = {.owner = 0};
  if (claim != 0 && result != CUDA_SUCCESS) let_go(claim);
  if (claim == 0 || result != CUDA_SUCCESS) return result;
  (void)device_current(&place);
  ledger_entry entry = {.key = key,
                        .bytes = claim,
                        .owner = place.owner,
                        .references = 1,
                        .kind = (uint8_t)kind,
                        .account = ACCOUNT_EXTERNAL};
  /* Without room for the entry the charge stays until the process ends: too much is safer than too little. */
  (void)admit_remember(&entry);
  return result;
}

GUARD_EXPORT CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *pointer, CUexternalMemory memory,
                                                      const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *descriptor) {
  BEGIN_HOOK(cuExternalMemoryGetMappedBuffer, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited || pointer == NULL) return real(pointer, memory, descriptor);
  uint64_t claim = hold_claim(memory);
  CUresult result = real(pointer, memory, descriptor);
  return mapped(claim, result, LEDGER_POINTER, *pointer);
}

GUARD_EXPORT CUresult cuExternalMemoryGetMappedMipmappedArray(
    CUmipmappedArray *array, CUexternalMemory memory, const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *descriptor) {
  BEGIN_HOOK(cuExternalMemoryGetMappedMipmappedArray, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited || array == NULL) return real(array, memory, descriptor);
  uint64_t claim = hold_claim(memory);
  CUresult result = real(array, memory, descriptor);
  return mapped(claim, result, LEDGER_ARRAY, (uintptr_t)*array);
}

GUARD_EXPORT CUresult cuDestroyExternalMemory(CUexternalMemory memory) {
  BEGIN_HOOK(cuDestroyExternalMemory, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(memory);
  struct refund refund = refund_begin(LEDGER_EXTERNAL, (uintptr_t)memory);
  CUresult result = real(memory);
  if (refund.found && result == CUDA_SUCCESS) let_go(refund.entry.owner);
  return refund_end(&refund, result);
}
