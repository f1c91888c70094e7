/* Stream-ordered allocations and pools.
 *
 * The charge begins with the call that orders the allocation and ends with the call that orders its release. */
#include "admit.h"
#include "driver.h"
#include "gate.h"

enum { POOL_ON_HOST = 255 };

/* The one way to give memory back that depends on no stream. */
static void give_back(uint64_t pointer) {
  __typeof__(&cuMemFree_v2) real = REAL(cuMemFree_v2);
  if (real != NULL) (void)real(pointer);
}

static CUresult settle(struct admission *admission, CUresult result, CUdeviceptr pointer) {
  return admit_settle(admission, result, LEDGER_POINTER, pointer, give_back);
}

typedef CUresult alloc_async_fn(CUdeviceptr *pointer, size_t bytes, CUstream stream);
typedef CUresult alloc_from_pool_fn(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream);
typedef CUresult free_async_fn(CUdeviceptr pointer, CUstream stream);

static CUresult alloc_async(alloc_async_fn *real, CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct device_place place;
  if (!limited || pointer == NULL || !device_of_stream(stream, &place)) return real(pointer, bytes, stream);
  struct admission admission;
  CUresult result = admit(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, bytes, stream);
  return settle(&admission, result, *pointer);
}

static CUresult alloc_from_pool(alloc_from_pool_fn *real, CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool,
                                CUstream stream) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct device_place place;
  bool on_host;
  if (!limited || pointer == NULL || !device_of_pool(pool, stream, &place, &on_host) || on_host) {
    return real(pointer, bytes, pool, stream);
  }
  struct admission admission;
  CUresult result = admit(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, bytes, pool, stream);
  return settle(&admission, result, *pointer);
}

static CUresult free_async(free_async_fn *real, CUdeviceptr pointer, CUstream stream) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  if (!limited) return real(pointer, stream);
  struct refund refund = refund_begin(LEDGER_POINTER, pointer);
  return refund_end(&refund, real(pointer, stream));
}

GUARD_EXPORT CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  return alloc_async(REAL(cuMemAllocAsync), pointer, bytes, stream);
}

GUARD_EXPORT CUresult cuMemAllocAsync_ptsz(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  return alloc_async(REAL(cuMemAllocAsync_ptsz), pointer, bytes, stream);
}

GUARD_EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return alloc_from_pool(REAL(cuMemAllocFromPoolAsync), pointer, bytes, pool, stream);
}

GUARD_EXPORT CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool,
                                                   CUstream stream) {
  return alloc_from_pool(REAL(cuMemAllocFromPoolAsync_ptsz), pointer, bytes, pool, stream);
}

GUARD_EXPORT CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
  return free_async(REAL(cuMemFreeAsync), pointer, stream);
}

GUARD_EXPORT CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream) {
  return free_async(REAL(cuMemFreeAsync_ptsz), pointer, stream);
}

GUARD_EXPORT CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props) {
  BEGIN_HOOK(cuMemPoolCreate, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(pool, props);
  if (!limited || result != CUDA_SUCCESS || pool == NULL || props == NULL) return result;
  bool on_device = props->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  ledger_entry replaced, entry = {
                             .key = (uintptr_t)*pool,
                             .kind = LEDGER_POOL,
                             .device = on_device ? (uint8_t)props->location.id : POOL_ON_HOST,
                         };
  (void)ledger_put(&entry, &replaced); /* without an entry the stream's device pays */
  return result;
}

GUARD_EXPORT CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  BEGIN_HOOK(cuMemPoolDestroy, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(pool);
  ledger_entry entry;
  if (limited && result == CUDA_SUCCESS) (void)ledger_take(LEDGER_POOL, (uintptr_t)pool, &entry);
  return result;
}
