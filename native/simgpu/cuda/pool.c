/* What pools reserve and use, and the functions that allocate from them. */
#include "pool.h"

#include <stdlib.h>
#include <unistd.h>

#include "capture.h"
#include "host_work.h"
#include "memory.h"
#include "stream.h"

/* What a stream will have freed when it comes to it, less what it has used again since. */
typedef struct pool_free {
  CUmemoryPool pool;
  const void *queue;
  uint64_t bytes;
  struct pool_free *next; /* of the pool */
} pool_free;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards the list and all figures */
static CUmemoryPool all;
static bool slack; /* whether a pool may have more reserved than it should keep */

bool pool_open(CUmemoryPool pool) { return object_is(pool, OBJECT_POOL) && !pool->closed; }

CUmemoryPool pool_new(CUdevice ordinal, const CUmemPoolProps *properties) {
  CUmemoryPool pool = object_new(OBJECT_POOL, sizeof *pool);
  if (pool == NULL) return NULL;
  pool->ordinal = ordinal;
  pool->properties = *properties;
  pool->fd = -1;
  for (int i = 0; i < 3; i++) pool->reuse[i] = 1;
  pthread_mutex_lock(&mutex);
  pool->next = all;
  all = pool;
  pthread_mutex_unlock(&mutex);
  return pool;
}

/* ---- figures; under the mutex ------------------------------------------------------------------------------------ */

static uint64_t rounded(uint64_t bytes) { return (bytes + POOL_UNIT_BYTES - 1) / POOL_UNIT_BYTES * POOL_UNIT_BYTES; }

static uint32_t card_of(const struct CUmemPoolHandle_st *pool) { return the_driver.devices[pool->ordinal].card; }

static uint64_t occupied(const struct CUmemPoolHandle_st *pool) { return pool->used_bytes + pool->freed_bytes; }

/* Gives back what is reserved beyond `keep` and beyond what is needed. */
static bool shrink(CUmemoryPool pool, uint64_t keep) {
  uint64_t needed = rounded(occupied(pool));
  if (keep >= pool->reserved_bytes) return false;
  if (keep > needed) needed = rounded(keep);
  if (needed >= pool->reserved_bytes) return false;
  sim_discharge(&the_driver.session, card_of(pool), pool->reserved_bytes - needed);
  pool->reserved_bytes = needed;
  return true;
}

static bool release_unused_locked(CUdevice ordinal) {
  bool any = false;
  for (CUmemoryPool pool = all; pool != NULL; pool = pool->next)
    if (pool->ordinal == ordinal && shrink(pool, 0)) any = true;
  return any;
}

static sim_status reserve(CUmemoryPool pool, uint64_t wanted) {
  if (wanted <= pool->reserved_bytes) return SIM_OK;
  uint64_t missing = wanted - pool->reserved_bytes;
  sim_status status = sim_charge(&the_driver.session, card_of(pool), missing);
  if (status == SIM_NO_SPACE && release_unused_locked(pool->ordinal)) {
    missing = wanted - pool->reserved_bytes;
    status = sim_charge(&the_driver.session, card_of(pool), missing);
  }
  if (status == SIM_OK) pool->reserved_bytes = wanted;
  return status;
}

static void note_most(CUmemoryPool pool) {
  if (pool->used_bytes > pool->most_used_bytes) pool->most_used_bytes = pool->used_bytes;
  if (pool->reserved_bytes > pool->most_reserved_bytes) pool->most_reserved_bytes = pool->reserved_bytes;
}

static void delete_locked(CUmemoryPool gone) {
  CUmemoryPool *link = &all;
  while (*link != gone) link = &(*link)->next;
  *link = gone->next;
  shrink(gone, 0);
  if (gone->fd >= 0) close(gone->fd);
  object_delete(gone);
}

/* What of `size` bytes the queue has freed itself. */
static uint64_t own_frees(const struct CUmemPoolHandle_st *pool, uint64_t size, const void *by) {
  uint64_t sum = 0;
  for (const pool_free *one = pool->frees; one != NULL && sum < size; one = one->next)
    if (one->queue == by) sum += one->bytes;
  return sum < size ? sum : size;
}

static void use_again(CUmemoryPool pool, uint64_t size, const void *by) {
  pool->freed_bytes -= size;
  for (pool_free *one = pool->frees; size > 0; one = one->next) {
    if (one->queue != by) continue;
    uint64_t here = one->bytes < size ? one->bytes : size;
    one->bytes -= here;
    size -= here;
  }
}

CUresult pool_use(CUmemoryPool pool, uint64_t size, const void *by) {
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  pthread_mutex_lock(&mutex);
  const uint64_t most = pool->properties.maxSize != 0 ? pool->properties.maxSize : UINT64_MAX;
  const uint64_t again = own_frees(pool, size, by);
  if (size <= most && pool->used_bytes <= most - size)
    result = driver_error(reserve(pool, rounded(occupied(pool) + size - again)));
  if (result == CUDA_SUCCESS) {
    use_again(pool, again, by);
    pool->used_bytes += size;
    note_most(pool);
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

static void let_go_locked(CUmemoryPool pool) {
  if (pool->closed && occupied(pool) == 0) delete_locked(pool);
  __atomic_store_n(&slack, true, __ATOMIC_RELEASE);
}

void pool_unuse(CUmemoryPool pool, uint64_t size) {
  pthread_mutex_lock(&mutex);
  pool->used_bytes -= size;
  let_go_locked(pool);
  pthread_mutex_unlock(&mutex);
}

/* The stream has come to a free. */
static void reached(void *data) {
  pool_free *gone = data;
  pthread_mutex_lock(&mutex);
  pool_free **link = &gone->pool->frees;
  while (*link != gone) link = &(*link)->next;
  *link = gone->next;
  gone->pool->freed_bytes -= gone->bytes;
  let_go_locked(gone->pool);
  pthread_mutex_unlock(&mutex);
}

/* `size` bytes are used no more and going to be free when the queue comes to it: in one step, since whoever allocates meanwhile must
 * neither find them free nor twice. */
static CUresult free_later(CUmemoryPool pool, uint64_t size, queue *of) {
  pool_free *made = malloc(sizeof *made);
  if (made == NULL) {
    pool_unuse(pool, size);
    return CUDA_SUCCESS;
  }
  *made = (pool_free){.pool = pool, .queue = of, .bytes = size};
  pthread_mutex_lock(&mutex);
  made->next = pool->frees;
  pool->frees = made;
  pool->freed_bytes += size;
  pool->used_bytes -= size;
  pthread_mutex_unlock(&mutex);
  return host_work_put(of, &(host_task){.function = reached, .data = made, .owns_data = true, .aside = true});
}

void pool_synchronized(void) {
  host_work_settle();
  if (!__atomic_load_n(&slack, __ATOMIC_ACQUIRE)) return;
  pthread_mutex_lock(&mutex);
  slack = false;
  for (CUmemoryPool pool = all; pool != NULL; pool = pool->next) shrink(pool, pool->release_threshold);
  pthread_mutex_unlock(&mutex);
}

bool pool_release_unused(CUdevice ordinal) {
  pthread_mutex_lock(&mutex);
  bool any = release_unused_locked(ordinal);
  pthread_mutex_unlock(&mutex);
  return any;
}

/* ---- pools ------------------------------------------------------------------------------------------------------- */

static CUresult default_pool(CUdevice ordinal, bool current, CUmemoryPool *pool) {
  gpu *found;
  const CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                     .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = ordinal}};
  TRY(driver_device(ordinal, &found));
  pthread_mutex_lock(&the_driver.mutex);
  if (found->default_pool == NULL) {
    found->default_pool = pool_new(ordinal, &properties);
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
  NEED(pool_open(pool) && pool->ordinal == dev && !pool->imported);
  pthread_mutex_lock(&the_driver.mutex);
  the_driver.devices[dev].current_pool = pool;
  pthread_mutex_unlock(&the_driver.mutex);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  CUmemoryPool first;
  TRY(driver_ready());
  NEED(pool_open(pool) && !pool->is_default);
  TRY(default_pool(pool->ordinal, false, &first));
  pthread_mutex_lock(&the_driver.mutex);
  gpu *owner = &the_driver.devices[pool->ordinal];
  if (owner->current_pool == pool) owner->current_pool = first;
  pthread_mutex_unlock(&the_driver.mutex);
  /* Allocations outlive their pool's handle. */
  pthread_mutex_lock(&mutex);
  pool->closed = true;
  if (occupied(pool) == 0) delete_locked(pool);
  pthread_mutex_unlock(&mutex);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep) {
  TRY(driver_ready());
  NEED(pool_open(pool));
  pthread_mutex_lock(&mutex);
  shrink(pool, minBytesToKeep);
  pthread_mutex_unlock(&mutex);
  return CUDA_SUCCESS;
}

/* ---- attributes -------------------------------------------------------------------------------------------------- */

/* Where an attribute of type cuuint64_t is kept; NULL for others. */
static uint64_t *figure(CUmemoryPool pool, CUmemPool_attribute attribute) {
  switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: return &pool->release_threshold;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: return &pool->reserved_bytes;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: return &pool->most_reserved_bytes;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT: return &pool->used_bytes;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH: return &pool->most_used_bytes;
    default: return NULL;
  }
}

static int *choice(CUmemoryPool pool, CUmemPool_attribute attribute) {
  switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES: return &pool->reuse[0];
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC: return &pool->reuse[1];
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES: return &pool->reuse[2];
    default: return NULL;
  }
}

static CUresult set_figure(CUmemoryPool pool, CUmemPool_attribute attribute, cuuint64_t value) {
  switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD: pool->release_threshold = value; return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      NEED(value == 0);
      *figure(pool, attribute) = 0;
      note_most(pool);
      return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
  CUresult result = CUDA_SUCCESS;
  TRY(driver_ready());
  NEED(pool_open(pool) && value != NULL);
  pthread_mutex_lock(&mutex);
  int *chosen = choice(pool, attr);
  if (chosen != NULL)
    *chosen = *(const int *)value;
  else
    result = figure(pool, attr) != NULL ? set_figure(pool, attr, *(const cuuint64_t *)value) : CUDA_ERROR_INVALID_VALUE;
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attr, void *value) {
  TRY(driver_ready());
  NEED(pool_open(pool) && value != NULL);
  pthread_mutex_lock(&mutex);
  const int *chosen = choice(pool, attr);
  const uint64_t *found = figure(pool, attr);
  if (chosen != NULL) *(int *)value = *chosen;
  if (found != NULL) *(cuuint64_t *)value = *found;
  pthread_mutex_unlock(&mutex);
  return chosen != NULL || found != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- access of other devices ------------------------------------------------------------------------------------- */

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *map, size_t count) {
  gpu *found;
  TRY(driver_ready());
  NEED(pool_open(pool) && (map != NULL || count == 0));
  for (size_t i = 0; i < count; i++) {
    NEED(map[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE);
    TRY(driver_device(map[i].location.id, &found));
    /* The device that has the memory cannot be shut out. */
    if (map[i].location.id == pool->ordinal) NEED(map[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    pool->access[map[i].location.id] = map[i].flags;
  }
  return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool memPool, CUmemLocation *location) {
  gpu *found;
  TRY(driver_ready());
  NEED(flags != NULL && location != NULL && pool_open(memPool) && location->type == CU_MEM_LOCATION_TYPE_DEVICE);
  TRY(driver_device(location->id, &found));
  *flags = location->id == memPool->ordinal ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : memPool->access[location->id];
  return CUDA_SUCCESS;
}

/* ---- allocations ------------------------------------------------------------------------------------------------- */

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
  CUcontext current;
  CUstream stream;
  uintptr_t address = 0;
  NEED(dptr != NULL);
  TRY(context_current(&current));
  TRY(stream_find(hStream, &stream));
  NEED(pool_open(pool) && !pool->imported);
  if (capture_any()) {
    bool captured;
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC,
                                .alloc = {.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                                        .location = {CU_MEM_LOCATION_TYPE_DEVICE, {pool->ordinal}}},
                                          .bytesize = bytesize}};
    TRY(capture_node(stream, &params, &captured));
    *dptr = params.alloc.dptr;
    if (captured) return CUDA_SUCCESS;
  }
  memory wanted = {.size = bytesize,
                   .kind = MEMORY_DEVICE,
                   .context = current,
                   .ordinal = pool->ordinal,
                   .pool = pool,
                   .queue = stream->queue};
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
  CUstream stream;
  memory range;
  TRY(context_current(&current));
  TRY(stream_find(hStream, &stream));
  if (capture_any()) {
    bool captured;
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = {.dptr = dptr}};
    TRY(capture_node(stream, &params, &captured));
    if (captured) return CUDA_SUCCESS;
  }
  NEED(memory_find((uintptr_t)dptr, &range) && range.base == dptr);
  if (range.kind == MEMORY_GRAPH) return graph_memory_free(graph_memory_at(dptr));
  NEED((range.kind & (MEMORY_DEVICE | MEMORY_EXTERNAL)) != 0);
  /* No kernel reads or writes memory, so its address and bytes are free at once; what the card has room for is not. */
  CUmemoryPool pool = memory_leave_pool(range.base);
  if (pool != NULL) TRY(free_later(pool, range.size, stream->queue));
  return memory_free((uintptr_t)dptr, MEMORY_DEVICE | MEMORY_EXTERNAL);
}
