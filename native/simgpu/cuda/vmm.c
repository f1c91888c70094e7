/* Virtual memory management: reservations of addresses, and mappings of physical memory into them. */
#include <stdlib.h>
#include <sys/mman.h>

#include "memory.h"
#include "physical.h"

#define GRANULARITY PHYSICAL_UNIT_BYTES

typedef struct reservation {
  uintptr_t base;
  size_t size;
  struct reservation *next;
} reservation;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards reservations */
static reservation *reservations;

static bool granular(uint64_t value) { return value % GRANULARITY == 0; }

/* ---- addresses --------------------------------------------------------------------------------------------------- */

CUresult cuMemAddressReserve(CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr addr,
                             unsigned long long flags) {
  NEED(ptr != NULL && size > 0 && granular(size) && flags == 0 && size <= SIZE_MAX / 4);
  NEED((alignment & (alignment - 1)) == 0 && alignment <= SIZE_MAX / 4);
  TRY(driver_ready());
  if (alignment < GRANULARITY) alignment = GRANULARITY;
  reservation *made = malloc(sizeof *made);
  if (made == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  void *wide =
      mmap((void *)(uintptr_t)addr, size + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (wide == MAP_FAILED) {
    free(made);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  uintptr_t start = (uintptr_t)wide;
  uintptr_t base = (start + alignment - 1) & ~(alignment - 1);
  if (base > start) munmap(wide, base - start);
  munmap((void *)(base + size), start + alignment - base);
  made->base = base;
  made->size = size;
  pthread_mutex_lock(&mutex);
  made->next = reservations;
  reservations = made;
  pthread_mutex_unlock(&mutex);
  *ptr = base;
  return CUDA_SUCCESS;
}

/* Whether nothing is mapped anywhere in the range. */
static bool unmapped(uintptr_t base, size_t size) {
  memory range;
  for (size_t offset = 0; offset < size; offset += GRANULARITY)
    if (memory_find(base + offset, &range)) return false;
  return true;
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size) {
  TRY(driver_ready());
  reservation *gone = NULL;
  pthread_mutex_lock(&mutex);
  for (reservation **link = &reservations; *link != NULL; link = &(*link)->next) {
    if ((*link)->base != ptr || (*link)->size != size || !unmapped((*link)->base, size)) continue;
    gone = *link;
    *link = gone->next;
    break;
  }
  pthread_mutex_unlock(&mutex);
  NEED(gone != NULL);
  munmap((void *)gone->base, gone->size);
  free(gone);
  return CUDA_SUCCESS;
}

static bool reserved(uintptr_t base, size_t size) {
  pthread_mutex_lock(&mutex);
  const reservation *found = reservations;
  while (found != NULL &&
         (base < found->base || base - found->base > found->size || size > found->size - (base - found->base)))
    found = found->next;
  pthread_mutex_unlock(&mutex);
  return found != NULL;
}

/* ---- mappings ---------------------------------------------------------------------------------------------------- */

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  NEED(ptr != 0 && size > 0 && granular(size) && granular(ptr) && offset == 0 && flags == 0);
  TRY(driver_ready());
  NEED(reserved((uintptr_t)ptr, size));
  physical *found = physical_map(handle, size);
  NEED(found != NULL);
  memory wanted = {.base = (uintptr_t)ptr,
                   .size = size,
                   .kind = MEMORY_MAPPED,
                   .ordinal = found->ordinal,
                   .physical = found,
                   .inaccessible = true};
  CUresult result = memory_record(&wanted);
  if (result == CUDA_SUCCESS)
    mmap((void *)(uintptr_t)ptr, size, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, found->fd, 0);
  else
    physical_unmap(found);
  return result;
}

/* Goes over the mappings that make up exactly the given range; INVALID_VALUE if there are holes or edges inside of
 * one. */
static CUresult next_mapping(uintptr_t at, uintptr_t end, memory *range) {
  NEED(memory_find(at, range) && range->kind == MEMORY_MAPPED && range->base == at && range->size <= end - at);
  return CUDA_SUCCESS;
}

static CUresult check_mappings(uintptr_t base, size_t size) {
  memory range;
  NEED(size > 0 && base <= UINTPTR_MAX - size);
  for (uintptr_t at = base; at < base + size; at += range.size) TRY(next_mapping(at, base + size, &range));
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size) {
  memory range;
  TRY(driver_ready());
  TRY(check_mappings((uintptr_t)ptr, size));
  for (uintptr_t at = (uintptr_t)ptr; at < ptr + size; at += range.size) {
    NEED(memory_forget(at, MEMORY_MAPPED, &range));
    mmap((void *)at, range.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    physical_unmap(range.physical);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count) {
  memory range;
  NEED(desc != NULL && count > 0);
  TRY(driver_ready());
  TRY(check_mappings((uintptr_t)ptr, size));
  for (size_t i = 0; i < count; i++) {
    gpu *found;
    const bool of_device = desc[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    if (of_device) TRY(driver_device(desc[i].location.id, &found));
    for (uintptr_t at = (uintptr_t)ptr; at < ptr + size; at += range.size) {
      TRY(next_mapping(at, (uintptr_t)ptr + size, &range));
      /* Whether processors of the host may reach memory is one question with whether its own device may. */
      int allowed = memory_set_access(at, of_device ? desc[i].location.id : range.ordinal, desc[i].flags);
      if (mprotect((void *)at, range.size, allowed) != 0) return CUDA_ERROR_OPERATING_SYSTEM;
    }
  }
  return CUDA_SUCCESS;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr ptr) {
  memory range;
  gpu *found;
  NEED(flags != NULL && location != NULL && location->type == CU_MEM_LOCATION_TYPE_DEVICE);
  TRY(driver_device(location->id, &found));
  NEED(memory_find((uintptr_t)ptr, &range) && range.kind == MEMORY_MAPPED);
  const uint32_t device = UINT32_C(1) << location->id;
  *flags = (range.writable & device) != 0    ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
           : (range.read_only & device) != 0 ? CU_MEM_ACCESS_FLAGS_PROT_READ
                                             : CU_MEM_ACCESS_FLAGS_PROT_NONE;
  return CUDA_SUCCESS;
}
