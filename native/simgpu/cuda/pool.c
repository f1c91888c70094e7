/* A pool gives memory back to the card as soon as it is freed: work is done when it is submitted, so nothing waits
 * for a later synchronisation, and what is reserved is always what is used. */
#include "pool.h"

#include "memory.h"

struct CUmemPoolHandle_st {
  object object;
  CUdevice ordinal;
  bool is_default;
  bool closed; /* destroyed, with allocations left */
  cuuint64_t release_threshold;
  int reuse[3]; /* follow event dependencies, opportunistic, internal dependencies */
  int64_t used_bytes;
  int64_t most_used_bytes;
};

static bool open_pool(CUmemoryPool pool) { return object_is(pool, OBJECT_POOL) && !pool->closed; }

void pool_count(CUmemoryPool pool, int64_t bytes) {
  int64_t now = __atomic_add_fetch(&pool->used_bytes, bytes, __ATOMIC_RELAXED);
  int64_t most = __atomic_load_n(&pool->most_used_bytes, __ATOMIC_RELAXED);
  while (now > most &&
         !__atomic_compare_exchange_n(&pool->most_used_bytes, &most, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  if (now == 0 && bytes < 0 && pool->closed) object_delete(pool);
}

static CUmemoryPool make(CUdevice ordinal) {
  CUmemoryPool pool = object_new(OBJECT_POOL, sizeof *pool);
  if (pool == NULL) return NULL;
  pool->ordinal = ordinal;
  for (int i = 0; i < 3; i++) pool->reuse[i] = 1;
  return pool;
}

static CUresult default_pool(CUdevice ordinal, bool current, CUmemoryPool *pool) {
  gpu *found;
  TRY(driver_device(ordinal, &found));
  pthread_mutex_lock(&the_driver.mutex);
  if (found->default_pool == NULL) {
    found->default_pool = make(ordinal);
    if (found->default_pool != NULL) found->default_pool->is_default = true;
    found->current_pool = found->default_pool;
  }
  *pool = current ? found->current_pool : found->default_pool;
  pthread_mutex_unlock(&the_driver.mutex);
  return *pool != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult pool_current(CUdevice ordinal, CUmemoryPool *pool) { return default_pool(ordinal, true, pool); }

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev) {
  NEED(pool_out != NULL);
  return default_pool(dev, false, pool_out);
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev) {
  NEED(pool != NULL);
  return default_pool(dev, true, pool);
}

CUresult cuDeviceSetMemPool(CUdevice dev, CUmemoryPool pool) {
  CUmemoryPool present;
  TRY(default_pool(dev, true, &present));
  NEED(open_pool(pool) && pool->ordinal == dev);
  pthread_mutex_lock(&the_driver.mutex);
  the_driver.devices[dev].current_pool = pool;
  pthread_mutex_unlock(&the_driver.mutex);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps) {
  gpu *found;
  NEED(pool != NULL && poolProps != NULL && poolProps->allocType == CU_MEM_ALLOCATION_TYPE_PINNED);
  if (poolProps->handleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
  if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
  TRY(driver_device(poolProps->location.id, &found));
  *pool = make(poolProps->location.id);
  return *pool != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  CUmemoryPool first;
  TRY(driver_ready());
  NEED(open_pool(pool) && !pool->is_default);
  TRY(default_pool(pool->ordinal, false, &first));
  pthread_mutex_lock(&the_driver.mutex);
  gpu *owner = &the_driver.devices[pool->ordinal];
  if (owner->current_pool == pool) owner->current_pool = first;
  pthread_mutex_unlock(&the_driver.mutex);
  /* Allocations outlive their pool's handle. */
  pool->closed = true;
  if (__atomic_load_n(&pool->used_bytes, __ATOMIC_RELAXED) == 0) object_delete(pool);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep) {
  (void)minBytesToKeep;
  TRY(driver_ready());
  NEED(open_pool(pool));
  return CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
  TRY(driver_ready());
  NEED(open_pool(pool) && value != NULL);
  switch (attr) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      pool->reuse[attr - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES] = *(const int *)value;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: pool->release_threshold = *(const cuuint64_t *)value; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      NEED(*(const cuuint64_t *)value == 0);
      pool->most_used_bytes = pool->used_bytes;
      return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
  TRY(driver_ready());
  NEED(open_pool(pool) && value != NULL);
  switch (attr) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      *(int *)value = pool->reuse[attr - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES];
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: *(cuuint64_t *)value = pool->release_threshold; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: *(cuuint64_t *)value = (cuuint64_t)pool->used_bytes; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: *(cuuint64_t *)value = (cuuint64_t)pool->most_used_bytes; return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t count) {
  TRY(driver_ready());
  NEED(open_pool(pool) && (map != NULL || count == 0));
  for (size_t i = 0; i < count; i++) {
    if (map[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE || map[i].location.id != pool->ordinal)
      return CUDA_ERROR_NOT_SUPPORTED; /* no peer access */
    NEED(map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool memPool, CUmemLocation *location) {
  TRY(driver_ready());
  NEED(flags != NULL && location != NULL && open_pool(memPool));
  *flags = location->type == CU_MEM_LOCATION_TYPE_DEVICE && location->id == memPool->ordinal
               ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
               : CU_MEM_ACCESS_FLAGS_PROT_NONE;
  return CUDA_SUCCESS;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
  CUcontext current;
  uintptr_t address = 0;
  (void)hStream;
  NEED(dptr != NULL);
  TRY(context_current(&current));
  NEED(open_pool(pool));
  memory wanted = {.size = bytesize, .kind = MEMORY_DEVICE, .context = current, .ordinal = pool->ordinal, .pool = pool};
  TRY(memory_new(&wanted, &address));
  *dptr = address;
  return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream) {
  CUcontext current;
  CUmemoryPool pool;
  TRY(context_current(&current));
  TRY(pool_current(current->ordinal, &pool));
  return cuMemAllocFromPoolAsync(dptr, bytesize, pool, hStream);
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
  CUcontext current;
  (void)hStream;
  TRY(context_current(&current));
  return memory_free((uintptr_t)dptr, MEMORY_DEVICE);
}
