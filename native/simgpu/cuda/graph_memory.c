/* Memory of graphs: addresses that belong to nodes, and one reserve for each device.
 *
 * What a graph allocates when it is launched comes out of the reserve, which takes from the card what it lacks; what is
 * freed goes back to the reserve, and to the card only with cuDeviceGraphMemTrim.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "graph.h"
#include "memory.h"

/* By attribute, CU_GRAPH_MEM_ATTR_*: used, most ever used, reserved, most ever reserved. */
typedef struct reserve {
  uint64_t used, most_used;
  uint64_t reserved, most_reserved;
} reserve;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static reserve reserves[SIM_MAX_CARDS];

/* All there are, to be found by their address. */
static graph_memory **known;
static size_t known_count;

static CUresult remember_locked(graph_memory *one) {
  graph_memory **grown = realloc(known, (known_count + 1) * sizeof *grown);
  if (grown == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  known = grown;
  known[known_count] = one;
  __atomic_store_n(&known_count, known_count + 1, __ATOMIC_RELEASE);
  return CUDA_SUCCESS;
}

static void forget_locked(const graph_memory *one) {
  size_t at = 0;
  while (known[at] != one) at++;
  known[at] = known[known_count - 1];
  __atomic_store_n(&known_count, known_count - 1, __ATOMIC_RELEASE);
}

CUresult graph_memory_new(CUdevice ordinal, size_t size, graph_memory **made) {
  if (size > SIZE_MAX / 2) return CUDA_ERROR_OUT_OF_MEMORY;
  graph_memory *one = calloc(1, sizeof *one);
  if (one == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *one = (graph_memory){.references = 1, .ordinal = ordinal, .base = (uintptr_t)pages, .size = size};
  pthread_mutex_lock(&mutex);
  CUresult result = pages != MAP_FAILED ? remember_locked(one) : CUDA_ERROR_OUT_OF_MEMORY;
  pthread_mutex_unlock(&mutex);
  if (result == CUDA_SUCCESS)
    *made = one;
  else
    free(one);
  return result;
}

graph_memory *graph_memory_retain(graph_memory *one) {
  __atomic_add_fetch(&one->references, 1u, __ATOMIC_RELAXED);
  return one;
}

void graph_memory_release(graph_memory *one) {
  if (__atomic_sub_fetch(&one->references, 1u, __ATOMIC_ACQ_REL) != 0) return;
  pthread_mutex_lock(&mutex);
  forget_locked(one);
  pthread_mutex_unlock(&mutex);
  munmap((void *)one->base, one->size);
  free(one);
}

graph_memory *graph_memory_at(CUdeviceptr address) {
  graph_memory *found = NULL;
  if (__atomic_load_n(&known_count, __ATOMIC_ACQUIRE) == 0) return NULL;
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; found == NULL && i < known_count; i++)
    if (known[i]->base == (uintptr_t)address) found = known[i];
  pthread_mutex_unlock(&mutex);
  return found;
}

static CUresult allocate_locked(graph_memory *one) {
  reserve *of = &reserves[one->ordinal];
  NEED(!one->allocated);
  uint64_t spare = of->reserved - of->used;
  uint64_t lacking = one->size > spare ? one->size - spare : 0;
  if (lacking > 0) TRY(memory_charge(one->ordinal, lacking));
  of->reserved += lacking;
  if (of->reserved > of->most_reserved) of->most_reserved = of->reserved;
  TRY(memory_record(&(memory){.base = one->base, .size = one->size, .kind = MEMORY_GRAPH, .ordinal = one->ordinal}));
  of->used += one->size;
  if (of->used > of->most_used) of->most_used = of->used;
  one->allocated = true;
  graph_memory_retain(one);
  return CUDA_SUCCESS;
}

CUresult graph_memory_allocate(graph_memory *one) {
  pthread_mutex_lock(&mutex);
  CUresult result = allocate_locked(one);
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult graph_memory_free(graph_memory *one) {
  memory gone;
  pthread_mutex_lock(&mutex);
  bool held = one->allocated && memory_forget(one->base, MEMORY_GRAPH, &gone);
  if (held) {
    one->allocated = false;
    reserves[one->ordinal].used -= one->size;
    madvise((void *)one->base, one->size, MADV_DONTNEED);
  }
  pthread_mutex_unlock(&mutex);
  NEED(held);
  graph_memory_release(one);
  return CUDA_SUCCESS;
}

/* ---- the device's reserve ---------------------------------------------------------------------------------------- */

CUresult cuDeviceGraphMemTrim(CUdevice device) {
  gpu *found;
  TRY(driver_device(device, &found));
  pthread_mutex_lock(&mutex);
  reserve *of = &reserves[device];
  uint64_t spare = of->reserved - of->used;
  of->reserved = of->used;
  if (spare > 0) memory_discharge(device, spare);
  pthread_mutex_unlock(&mutex);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr, void *value) {
  gpu *found;
  NEED(value != NULL && attr <= CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH);
  TRY(driver_device(device, &found));
  pthread_mutex_lock(&mutex);
  const reserve *of = &reserves[device];
  const uint64_t values[] = {of->used, of->most_used, of->reserved, of->most_reserved};
  pthread_mutex_unlock(&mutex);
  *(cuuint64_t *)value = values[attr];
  return CUDA_SUCCESS;
}

/* High-water marks can be set to zero, which means: to what is there now. */
CUresult cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attr, void *value) {
  gpu *found;
  NEED(value != NULL && *(const cuuint64_t *)value == 0);
  NEED(attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attr == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH);
  TRY(driver_device(device, &found));
  pthread_mutex_lock(&mutex);
  reserve *of = &reserves[device];
  if (attr == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
    of->most_used = of->used;
  else
    of->most_reserved = of->reserved;
  pthread_mutex_unlock(&mutex);
  return CUDA_SUCCESS;
}
