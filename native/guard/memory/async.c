/* Stream-ordered allocations and pools.
 *
 * What a pool hands out and what it keeps is the pool's account (pool.h).  While a stream is captured an allocation is a node of the
 * graph that is recorded, and takes no memory yet. */
#include "admit.h"
#include "driver.h"
#include "flight.h"
#include "gate.h"
#include "overflow.h"
#include "pool.h"

typedef CUresult alloc_async_fn(CUdeviceptr *pointer, size_t bytes, CUstream stream);
typedef CUresult alloc_from_pool_fn(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream);
typedef CUresult free_async_fn(CUdeviceptr pointer, CUstream stream);

/* The one way to give memory back that depends on no stream. */
static void give_back(uint64_t pointer) {
  __typeof__(&cuMemFree_v2) real = REAL(cuMemFree_v2);
  if (real != NULL) (void)real(pointer);
}

/* One call of either kind: what it asks for, and the driver's function for it. */
struct call {
  alloc_async_fn *from_current;
  alloc_from_pool_fn *from_pool; /* when from_current is NULL */
  CUdeviceptr *pointer;
  size_t bytes;
  CUmemoryPool pool;
  CUstream stream;
  CUstream seen; /* the stream as functions without a per-thread twin name it */
};

static CUresult ask_driver(const struct call *call) {
  if (call->from_current != NULL) return call->from_current(call->pointer, call->bytes, call->stream);
  return call->from_pool(call->pointer, call->bytes, call->pool, call->stream);
}

/* False while the stream is captured; *may_wait: it may be waited for. */
static bool takes_memory(CUstream stream, bool *may_wait) {
  cuStreamIsCapturing_fn *ask = DRIVER(cuStreamIsCapturing);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  *may_wait = ask != NULL && ask(stream, &status) == CUDA_SUCCESS && status == CU_STREAM_CAPTURE_STATUS_NONE;
  return status == CU_STREAM_CAPTURE_STATUS_NONE;
}

/* Remembers whom the pointer's release is to be told to. */
static bool remember(CUdeviceptr pointer, size_t bytes, CUmemoryPool pool) {
  ledger_entry entry = {.key = pointer,
                        .bytes = bytes,
                        .owner = (uintptr_t)pool,
                        .references = 1,
                        .kind = LEDGER_POINTER,
                        .account = ACCOUNT_POOL};
  return admit_remember(&entry);
}

static CUresult order(const struct call *call, struct pool_order *order) {
  CUresult result = pool_admit(order);
  if (result != CUDA_SUCCESS) return overflow_allocate(call->pointer, call->bytes, pool_device(order->pool));
  result = ask_driver(call);
  bool granted = result == CUDA_SUCCESS;
  bool fits = pool_settle(order, granted);
  if (!granted || (fits && remember(*call->pointer, call->bytes, call->pool))) return result;
  give_back(*call->pointer);
  pool_freed(call->pool, call->bytes);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult allocate(struct call *call) {
  GATE(limited);
  FLIGHT;
  struct device_place place;
  bool may_wait;
  struct pool *pool;
  if (!limited || call->pointer == NULL || !device_of_stream(call->seen, &place)) return ask_driver(call);
  if (!takes_memory(call->seen, &may_wait)) return ask_driver(call);
  if (call->from_current != NULL) call->pool = pool_current(place.device);
  CUresult result = pool_find(call->pool, place.device, &pool);
  if (result != CUDA_SUCCESS) return result;
  if (pool == NULL) return ask_driver(call);
  return order(call,
               &(struct pool_order){.pool = pool, .bytes = call->bytes, .stream = call->seen, .may_wait = may_wait});
}

static CUresult alloc_async(alloc_async_fn *real, struct call call) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  call.from_current = real;
  return allocate(&call);
}

static CUresult alloc_from_pool(alloc_from_pool_fn *real, struct call call) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  call.from_pool = real;
  return allocate(&call);
}

/* The per-thread twins' stream 0 is what the others call CU_STREAM_PER_THREAD. */
static CUstream per_thread(CUstream stream) { return stream == NULL ? CU_STREAM_PER_THREAD : stream; }

/* Managed memory that stands for stream-ordered memory (overflow.h) cannot be freed in a stream's order but after it. */
static CUresult free_managed(CUdeviceptr pointer, CUstream seen) {
  __typeof__(&cuStreamSynchronize) wait = REAL(cuStreamSynchronize);
  __typeof__(&cuMemFree_v2) release = REAL(cuMemFree_v2);
  if (wait == NULL || release == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  CUresult result = wait(seen);
  return result == CUDA_SUCCESS ? release(pointer) : result;
}

static CUresult free_async(free_async_fn *real, CUdeviceptr pointer, CUstream stream, CUstream seen) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  FLIGHT;
  if (!limited) return real(pointer, stream);
  struct refund refund = refund_begin(LEDGER_POINTER, pointer);
  bool managed = refund.found && refund.entry.account == ACCOUNT_MANAGED;
  return refund_end(&refund, managed ? free_managed(pointer, seen) : real(pointer, stream));
}

#define CALL(...) \
  (struct call) { .pointer = pointer, .bytes = bytes, .stream = stream, __VA_ARGS__ }

GUARD_EXPORT CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  return alloc_async(REAL(cuMemAllocAsync), CALL(.seen = stream));
}

GUARD_EXPORT CUresult cuMemAllocAsync_ptsz(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  return alloc_async(REAL(cuMemAllocAsync_ptsz), CALL(.seen = per_thread(stream)));
}

GUARD_EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return alloc_from_pool(REAL(cuMemAllocFromPoolAsync), CALL(.seen = stream, .pool = pool));
}

GUARD_EXPORT CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool,
                                                   CUstream stream) {
  return alloc_from_pool(REAL(cuMemAllocFromPoolAsync_ptsz), CALL(.seen = per_thread(stream), .pool = pool));
}

GUARD_EXPORT CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
  return free_async(REAL(cuMemFreeAsync), pointer, stream, stream);
}

GUARD_EXPORT CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream) {
  return free_async(REAL(cuMemFreeAsync_ptsz), pointer, stream, per_thread(stream));
}

/* ---- pools ---- */

/* Managed memory of a pool counts in full, like that of cuMemAllocManaged: all of it may come to lie on the device. */
static bool is_chargeable(const CUmemPoolProps *props) {
  return props->location.type == CU_MEM_LOCATION_TYPE_DEVICE || props->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;
}

GUARD_EXPORT CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props) {
  BEGIN_HOOK(cuMemPoolCreate, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(pool, props);
  if (!limited || result != CUDA_SUCCESS || pool == NULL || props == NULL) return result;
  struct device_place place = {.device = 0};
  struct pool *known;
  bool on_device = props->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  if (!is_chargeable(props) || (!on_device && !device_current(&place))) {
    pool_ignore(*pool);
  } else if (pool_find(*pool, on_device ? props->location.id : place.device, &known) != CUDA_SUCCESS) {
    __typeof__(&cuMemPoolDestroy) destroy = REAL(cuMemPoolDestroy);
    if (destroy != NULL) (void)destroy(*pool);
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  return result;
}

/* An imported pool allocates nothing; what is in it was charged to whoever exported it. */
GUARD_EXPORT CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle,
                                                         CUmemAllocationHandleType type, unsigned long long flags) {
  BEGIN_HOOK(cuMemPoolImportFromShareableHandle, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(pool, handle, type, flags);
  if (limited && result == CUDA_SUCCESS && pool != NULL) pool_ignore(*pool);
  return result;
}

GUARD_EXPORT CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  BEGIN_HOOK(cuMemPoolDestroy, CUDA_ERROR_NOT_INITIALIZED);
  return limited ? pool_destroy(pool, real) : real(pool);
}

GUARD_EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) {
  BEGIN_HOOK(cuMemPoolTrimTo, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(pool, keep);
  if (limited) pool_refresh();
  return result;
}

/* ---- where pools give memory back by themselves ---- */

GUARD_EXPORT CUresult cuStreamSynchronize(CUstream stream) {
  BEGIN_HOOK(cuStreamSynchronize, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(stream);
  if (limited) pool_refresh();
  return result;
}

GUARD_EXPORT CUresult cuStreamSynchronize_ptsz(CUstream stream) {
  BEGIN_HOOK(cuStreamSynchronize_ptsz, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(stream);
  if (limited) pool_refresh();
  return result;
}

GUARD_EXPORT CUresult cuEventSynchronize(CUevent event) {
  BEGIN_HOOK(cuEventSynchronize, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(event);
  if (limited) pool_refresh();
  return result;
}

GUARD_EXPORT CUresult cuCtxSynchronize(void) {
  BEGIN_HOOK(cuCtxSynchronize, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real();
  if (limited) pool_refresh();
  return result;
}

GUARD_EXPORT CUresult cuCtxSynchronize_v2(CUcontext context) {
  BEGIN_HOOK(cuCtxSynchronize_v2, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(context);
  if (limited) pool_refresh();
  return result;
}
