/* Virtual memory management: reservations of addresses, physical memory, and mappings of one into the other.
 *
 * Physical memory is charged when it is created and given back when nothing holds it any more: neither a handle
 * nor a mapping.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory.h"

#define GRANULARITY (2u << 20)

typedef struct physical {
  object object;
  int fd; /* of memory that has no name */
  size_t size;
  CUdevice ordinal;
  bool on_card;
  unsigned int handles;
  unsigned int mappings;
  CUmemAllocationProp properties;
} physical;

typedef struct reservation {
  uintptr_t base;
  size_t size;
  struct reservation *next;
} reservation;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards reservations and counts */
static reservation *reservations;

static bool granular(uint64_t value) { return value % GRANULARITY == 0; }

/* ---- addresses --------------------------------------------------------------------------------------------------- */

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
                                       CUmemAllocationGranularity_flags option) {
  NEED(granularity != NULL && prop != NULL && option <= CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  TRY(driver_ready());
  *granularity = GRANULARITY;
  return CUDA_SUCCESS;
}

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

/* ---- physical memory --------------------------------------------------------------------------------------------- */

static physical *from_handle(CUmemGenericAllocationHandle handle) {
  physical *found = (physical *)(uintptr_t)handle;
  return object_is(found, OBJECT_PHYSICAL) && found->handles > 0 ? found : NULL;
}

/* Gives the memory back if nothing holds it.  Under the mutex. */
static void drop_if_unused(physical *unused) {
  if (unused->handles > 0 || unused->mappings > 0) return;
  close(unused->fd);
  if (unused->on_card) sim_discharge(&the_driver.session, the_driver.devices[unused->ordinal].card, unused->size);
  object_delete(unused);
}

static CUresult back(physical *made) {
  made->fd = (int)syscall(SYS_memfd_create, "simgpu", 1u /* MFD_CLOEXEC */);
  if (made->fd >= 0 && ftruncate(made->fd, (off_t)made->size) == 0) return CUDA_SUCCESS;
  if (made->fd >= 0) close(made->fd);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop,
                     unsigned long long flags) {
  gpu *found;
  NEED(handle != NULL && prop != NULL && flags == 0 && size > 0 && granular(size) && size <= INT64_MAX);
  NEED(prop->type == CU_MEM_ALLOCATION_TYPE_PINNED);
  if (prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
  const bool on_card = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  TRY(driver_device(on_card ? prop->location.id : 0, &found));
  physical *made = object_new(OBJECT_PHYSICAL, sizeof *made);
  if (made == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  made->size = size;
  made->ordinal = on_card ? prop->location.id : 0;
  made->on_card = on_card;
  made->properties = *prop;
  CUresult result = on_card ? driver_error(sim_charge(&the_driver.session, found->card, size)) : CUDA_SUCCESS;
  if (result == CUDA_SUCCESS && (result = back(made)) != CUDA_SUCCESS && on_card)
    sim_discharge(&the_driver.session, found->card, size);
  if (result != CUDA_SUCCESS) {
    object_delete(made);
    return result;
  }
  made->handles = 1;
  *handle = (uintptr_t)made;
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  TRY(driver_ready());
  pthread_mutex_lock(&mutex);
  physical *found = from_handle(handle);
  if (found != NULL) {
    found->handles--;
    drop_if_unused(found);
  }
  pthread_mutex_unlock(&mutex);
  NEED(found != NULL);
  return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr) {
  memory range;
  NEED(handle != NULL);
  TRY(driver_ready());
  NEED(memory_find((uintptr_t)addr, &range) && range.kind == MEMORY_MAPPED);
  pthread_mutex_lock(&mutex);
  ((physical *)range.physical)->handles++;
  pthread_mutex_unlock(&mutex);
  *handle = (uintptr_t)range.physical;
  return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *prop, CUmemGenericAllocationHandle handle) {
  NEED(prop != NULL);
  TRY(driver_ready());
  const physical *found = from_handle(handle);
  NEED(found != NULL);
  *prop = found->properties;
  return CUDA_SUCCESS;
}

/* ---- mappings ---------------------------------------------------------------------------------------------------- */

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  NEED(ptr != 0 && size > 0 && granular(size) && granular(ptr) && offset == 0 && flags == 0);
  TRY(driver_ready());
  NEED(reserved((uintptr_t)ptr, size));
  pthread_mutex_lock(&mutex);
  physical *found = from_handle(handle);
  CUresult result = found != NULL && size == found->size ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  if (result == CUDA_SUCCESS) {
    memory wanted = {.base = (uintptr_t)ptr,
                     .size = size,
                     .kind = MEMORY_MAPPED,
                     .ordinal = found->ordinal,
                     .physical = found,
                     .inaccessible = true};
    result = memory_record(&wanted);
  }
  if (result == CUDA_SUCCESS) {
    mmap((void *)(uintptr_t)ptr, size, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, found->fd, 0);
    found->mappings++;
  }
  pthread_mutex_unlock(&mutex);
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
    pthread_mutex_lock(&mutex);
    physical *found = range.physical;
    found->mappings--;
    drop_if_unused(found);
    pthread_mutex_unlock(&mutex);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(CUdeviceptr ptr, size_t size, const CUmemAccessDesc *desc, size_t count) {
  memory range;
  NEED(desc != NULL && count > 0);
  TRY(driver_ready());
  TRY(check_mappings((uintptr_t)ptr, size));
  for (size_t i = 0; i < count; i++) {
    const bool readable = desc[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE;
    const int protection = desc[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? PROT_READ | PROT_WRITE
                           : readable                                          ? PROT_READ
                                                                               : PROT_NONE;
    for (uintptr_t at = (uintptr_t)ptr; at < ptr + size; at += range.size) {
      TRY(next_mapping(at, (uintptr_t)ptr + size, &range));
      if (desc[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE && desc[i].location.id != range.ordinal)
        return CUDA_ERROR_NOT_SUPPORTED; /* no peer access */
      if (mprotect((void *)at, range.size, protection) != 0) return CUDA_ERROR_OPERATING_SYSTEM;
      memory_set_accessible(at, readable);
    }
  }
  return CUDA_SUCCESS;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr ptr) {
  memory range;
  NEED(flags != NULL && location != NULL);
  TRY(driver_ready());
  NEED(memory_find((uintptr_t)ptr, &range) && range.kind == MEMORY_MAPPED);
  *flags = !range.inaccessible && location->id == range.ordinal ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                                                : CU_MEM_ACCESS_FLAGS_PROT_NONE;
  return CUDA_SUCCESS;
}
