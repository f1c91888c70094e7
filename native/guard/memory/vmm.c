/* Virtual memory management: physical memory is charged from cuMemCreate until its last reference is gone.
 *
 * A handle and every mapping of it are references; programs release the handle while the memory is still mapped, and unmap later.
 * Memory that another process exported is charged when it is mapped (imports.h). */
#include "admit.h"
#include "driver.h"
#include "flight.h"
#include "gate.h"
#include "imports.h"
#include "prim.h"

static void give_back(uint64_t handle) {
  __typeof__(&cuMemRelease) real = REAL(cuMemRelease);
  if (real != NULL) (void)real(handle);
}

GUARD_EXPORT CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                                  unsigned long long flags) {
  BEGIN_HOOK(cuMemCreate, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited || handle == NULL || prop == NULL || prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
    return real(handle, bytes, prop, flags);
  }
  struct device_place place = {.device = prop->location.id, .owner = 0};
  struct admission admission;
  CUresult result = admit(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return result;
  result = real(handle, bytes, prop, flags);
  return admit_settle(&admission, result, LEDGER_HANDLE, *handle, give_back);
}

/* Takes one reference away; true when it was the last one, and with it the entry. */
static bool unrefer(CUmemGenericAllocationHandle handle, ledger_entry *last) {
  return ledger_refer(LEDGER_HANDLE, handle, -1) == 0 && ledger_take(LEDGER_HANDLE, handle, last);
}

static void unrefer_unmapped(CUmemGenericAllocationHandle handle) {
  ledger_entry last;
  if (unrefer(handle, &last)) admit_refund(&last);
}

GUARD_EXPORT CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  BEGIN_HOOK(cuMemRelease, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(handle);
  /* Before the driver: once the last reference is gone there, the same value may be another thread's new handle. */
  struct refund refund;
  refund.found = unrefer(handle, &refund.entry);
  CUresult result = real(handle);
  if (result != CUDA_SUCCESS && !refund.found) (void)ledger_refer(LEDGER_HANDLE, handle, 1);
  refund.entry.references = 1;
  return refund_end(&refund, result);
}

GUARD_EXPORT CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address) {
  BEGIN_HOOK(cuMemRetainAllocationHandle, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(handle, address);
  if (limited && result == CUDA_SUCCESS && handle != NULL) (void)ledger_refer(LEDGER_HANDLE, *handle, 1);
  return result;
}

GUARD_EXPORT CUresult cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                               unsigned long long flags) {
  BEGIN_HOOK(cuMemMap, CUDA_ERROR_NOT_INITIALIZED);
  struct admission admission = {.charged = false};
  /* Referred to before the driver maps: another thread may release the handle right after. */
  bool known = limited && ledger_refer(LEDGER_HANDLE, handle, 1) != UINT32_MAX;
  CUresult result = known ? import_admit_mapping(&admission, handle, bytes) : CUDA_SUCCESS;
  if (result == CUDA_SUCCESS) result = real(pointer, bytes, offset, handle, flags);
  if (!known) return result;
  import_settle_mapping(&admission, handle, result);
  ledger_entry replaced, mapping = {.key = pointer, .bytes = bytes, .owner = handle, .kind = LEDGER_MAPPING};
  if (result != CUDA_SUCCESS) unrefer_unmapped(handle);
  /* Without room for the entry the charge stays until the process ends: too much is safer than too little. */
  if (result == CUDA_SUCCESS) (void)ledger_put(&mapping, &replaced);
  return result;
}

/* ---- unmapping ---- */

/* A mapping that goes, and the handle behind it when that goes with it. */
struct unmapped {
  ledger_entry mapping, handle;
  bool last;
};

enum { FEW = 8, SMALLEST_SHIFT = 16 /* no driver maps pieces below 64 KiB */ };

/* One unmap may cover several mappings, which lie one behind the other. */
static bool take_mapping(CUdeviceptr from, CUdeviceptr to, ledger_entry *out) {
  return ledger_take(LEDGER_MAPPING, from, out) || ledger_take_between(LEDGER_MAPPING, from, to, out);
}

/* Before the driver unmaps: once the last reference is gone there, the handle's value may be another thread's new handle. */
static size_t take_mappings(CUdeviceptr from, CUdeviceptr to, struct unmapped *list, size_t room) {
  size_t count = 0;
  for (CUdeviceptr at = from; at < to && count < room && take_mapping(at, to, &list[count].mapping); count++) {
    list[count].last = unrefer(list[count].mapping.owner, &list[count].handle);
    if (list[count].mapping.key == at) at += list[count].mapping.bytes;
  }
  return count;
}

static void put_back(struct unmapped *one) {
  ledger_entry replaced;
  one->handle.references = 1;
  if (one->last) (void)ledger_put(&one->handle, &replaced);
  if (!one->last) (void)ledger_refer(LEDGER_HANDLE, one->mapping.owner, 1);
  (void)ledger_put(&one->mapping, &replaced);
}

GUARD_EXPORT CUresult cuMemUnmap(CUdeviceptr pointer, size_t bytes) {
  BEGIN_HOOK(cuMemUnmap, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(pointer, bytes);
  CUdeviceptr end;
  if (__builtin_add_overflow(pointer, (CUdeviceptr)bytes, &end)) return real(pointer, bytes);
  struct unmapped few[FEW];
  size_t room = (bytes >> SMALLEST_SHIFT) + 1;
  struct unmapped *list = room <= FEW ? few : prim_pages(room * sizeof *list);
  /* Without memory for the list the charges stay until the process ends: too much is safer than too little. */
  size_t count = list != NULL ? take_mappings(pointer, end, list, room) : 0;
  CUresult result = real(pointer, bytes);
  for (size_t i = 0; i < count; i++) {
    if (result != CUDA_SUCCESS) put_back(&list[i]);
    if (result == CUDA_SUCCESS && list[i].last) admit_refund(&list[i].handle);
  }
  if (list != few) prim_unmap(list, room * sizeof *list);
  return result;
}
