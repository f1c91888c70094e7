#include "imports.h"

#include <stdatomic.h>

#include "driver.h"
#include "flight.h"
#include "gate.h"
#include "lock.h"

static atomic_uint_fast64_t held_bytes;
static guard_lock lock; /* a pointer becomes an entry once, however many threads open its handle */

void import_reset(void) {
  atomic_store(&held_bytes, 0);
  lock.word = 0;
}

bool import_is_held(void) { return atomic_load(&held_bytes) != 0; }

void import_refund(const ledger_entry *entry) {
  if (entry->bytes == 0) return;
  share_release(entry->share, entry->bytes);
  atomic_fetch_sub(&held_bytes, entry->bytes);
}

/* Makes an admission an entry, which from now on is what gives it back; false when there is no room for one. */
static bool keep(struct admission *admission, ledger_entry entry) {
  entry.bytes = admission->bytes;
  entry.references = 1;
  entry.share = (uint16_t)admission->share;
  entry.account = ACCOUNT_IMPORT;
  atomic_fetch_add(&held_bytes, entry.bytes);
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

/* How much lies behind an opened handle, and on which device; false when the driver does not tell. */
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
static bool charge_opened(CUdeviceptr pointer) {
  struct device_place place;
  struct admission admission;
  uint64_t bytes;
  if (is_open(pointer)) return true;
  if (!look_behind(pointer, &place, &bytes) || admit(&admission, &place, bytes) != CUDA_SUCCESS) return false;
  if (!admission.charged) return true;
  GUARD_HOLD(&lock);
  if (!is_open(pointer)) {
    return keep(&admission, (ledger_entry){.key = pointer, .owner = place.owner, .kind = LEDGER_IPC});
  }
  admit_cancel(&admission);
  return true;
}

static CUresult open_handle(__typeof__(&cuIpcOpenMemHandle_v2) real, CUdeviceptr *pointer, CUipcMemHandle handle,
                            unsigned int flags) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  FLIGHT;
  CUresult result = real(pointer, handle, flags);
  if (!limited || result != CUDA_SUCCESS || charge_opened(*pointer)) return result;
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

/* The handle that was imported, with nothing charged for it yet: its size is told by the first mapping. */
static bool remember_handle(CUmemGenericAllocationHandle handle) {
  struct device_place place;
  share_set shares;
  ledger_entry entry = {.key = handle, .references = 1, .kind = LEDGER_HANDLE, .account = ACCOUNT_IMPORT};
  if (!device_of_handle(handle, &place)) return true;
  if (admit_shares(place.device, &shares) != CUDA_SUCCESS) return false;
  GUARD_HOLD(&lock);
  return shares == 0 || ledger_refer(LEDGER_HANDLE, handle, 1) != UINT32_MAX || admit_remember(&entry);
}

GUARD_EXPORT CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *exported,
                                                     CUmemAllocationHandleType type) {
  BEGIN_HOOK(cuMemImportFromShareableHandle, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  CUresult result = real(handle, exported, type);
  if (!limited || result != CUDA_SUCCESS || remember_handle(*handle)) return result;
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
  ledger_entry charged = {.bytes = admission->bytes, .share = (uint16_t)admission->share};
  if (!admission->charged) return;
  atomic_fetch_add(&held_bytes, charged.bytes);
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
static bool remember_external(struct admission *admission, CUexternalMemory memory) {
  static atomic_uint_fast64_t last;
  uint64_t claim = atomic_fetch_add(&last, 1) | (uint64_t)3 << 62; /* no context and no pool has such an address */
  ledger_entry object = {.key = (uintptr_t)memory, .owner = claim, .references = 1, .kind = LEDGER_EXTERNAL};
  if (!keep(admission, (ledger_entry){.key = claim, .kind = LEDGER_IMPORT})) return false;
  if (admit_remember(&object)) return true;
  let_go(claim);
  return false;
}

GUARD_EXPORT CUresult cuImportExternalMemory(CUexternalMemory *memory,
                                             const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *descriptor) {
  BEGIN_HOOK(cuImportExternalMemory, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  struct device_place place;
  struct admission admission;
  if (!limited || memory == NULL || descriptor == NULL || !device_current(&place)) return real(memory, descriptor);
  CUresult result = admit(&admission, &place, descriptor->size);
  if (result != CUDA_SUCCESS) return result;
  result = real(memory, descriptor);
  if (result != CUDA_SUCCESS) admit_cancel(&admission);
  if (result != CUDA_SUCCESS || !admission.charged || remember_external(&admission, *memory)) return result;
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
