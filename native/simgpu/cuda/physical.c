#include "physical.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "memory.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards counts and shares */

static physical *from_handle(CUmemGenericAllocationHandle handle) {
  physical *found = (physical *)(uintptr_t)handle;
  return object_is(found, OBJECT_PHYSICAL) && found->handles > 0 ? found : NULL;
}

/* ---- lifetime; under the mutex ----------------------------------------------------------------------------------- */

static bool shared(const physical *of) { return of->share.index != SIM_NO_SHARE.index; }

static void drop_if_unused(physical *unused) {
  if (unused->handles > 0 || unused->mappings > 0) return;
  close(unused->fd);
  if (shared(unused))
    sim_share_drop(&the_driver.session, unused->share);
  else if (unused->on_card)
    memory_discharge(unused->ordinal, unused->size);
  object_delete(unused);
}

physical *physical_map(CUmemGenericAllocationHandle handle, size_t size) {
  pthread_mutex_lock(&mutex);
  physical *found = from_handle(handle);
  if (found != NULL && found->size < size) found = NULL;
  if (found != NULL) found->mappings++;
  pthread_mutex_unlock(&mutex);
  return found;
}

void physical_unmap(physical *gone) {
  pthread_mutex_lock(&mutex);
  gone->mappings--;
  drop_if_unused(gone);
  pthread_mutex_unlock(&mutex);
}

static backing_note note_of(const physical *of) {
  backing_note note = {.kind = BACKING_PHYSICAL,
                       .on_card = of->on_card,
                       .size = of->size,
                       .share = of->share,
                       .properties = of->properties};
  memcpy(note.uuid, the_driver.devices[of->ordinal].facts.uuid, sizeof note.uuid);
  return note;
}

/* ---- handles ----------------------------------------------------------------------------------------------------- */

CUresult cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *prop,
                                       CUmemAllocationGranularity_flags option) {
  gpu *found;
  NEED(granularity != NULL && prop != NULL && option <= CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  NEED(prop->type == CU_MEM_ALLOCATION_TYPE_PINNED);
  TRY(driver_ready());
  if (prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE) TRY(driver_device(prop->location.id, &found));
  *granularity = PHYSICAL_UNIT_BYTES;
  return CUDA_SUCCESS;
}

static CUresult make(const physical *wanted, CUmemGenericAllocationHandle *handle) {
  physical *made = object_new(OBJECT_PHYSICAL, sizeof *made);
  if (made == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  const object own = made->object;
  *made = *wanted;
  made->object = own;
  made->handles = 1;
  *handle = (uintptr_t)made;
  return CUDA_SUCCESS;
}

static bool exportable(const CUmemAllocationProp *properties) {
  return properties->requestedHandleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop,
                     unsigned long long flags) {
  gpu *found;
  NEED(handle != NULL && prop != NULL && flags == 0 && size > 0 && size % PHYSICAL_UNIT_BYTES == 0);
  NEED(prop->type == CU_MEM_ALLOCATION_TYPE_PINNED && size <= INT64_MAX / 2);
  if (prop->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE && !exportable(prop)) return CUDA_ERROR_NOT_SUPPORTED;
  const bool on_card = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
  TRY(driver_device(on_card ? prop->location.id : 0, &found));
  physical wanted = {.size = size,
                     .ordinal = on_card ? prop->location.id : 0,
                     .on_card = on_card,
                     .share = SIM_NO_SHARE,
                     .properties = *prop};
  if (on_card) TRY(memory_charge(wanted.ordinal, size));
  const backing_note note = note_of(&wanted);
  wanted.fd = backing_new(&note);
  CUresult result = wanted.fd >= 0 ? make(&wanted, handle) : CUDA_ERROR_OUT_OF_MEMORY;
  if (result != CUDA_SUCCESS && wanted.fd >= 0) close(wanted.fd);
  if (result != CUDA_SUCCESS && on_card) memory_discharge(wanted.ordinal, size);
  return result;
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

/* ---- other processes --------------------------------------------------------------------------------------------- */

/* Charged to this process until now, to all that hold it from now on. */
static CUresult share_with_others(physical *of) {
  if (!of->on_card || shared(of)) return CUDA_SUCCESS;
  sim_share_name name;
  TRY(driver_error(sim_share_make(&the_driver.session, the_driver.devices[of->ordinal].card, of->size, &name)));
  of->share = name;
  const backing_note note = note_of(of);
  return backing_write(of->fd, &note) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemExportToShareableHandle(void *shareableHandle, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType handleType, unsigned long long flags) {
  NEED(shareableHandle != NULL && flags == 0);
  TRY(driver_ready());
  if (handleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  pthread_mutex_lock(&mutex);
  physical *found = from_handle(handle);
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  if (found != NULL && exportable(&found->properties)) result = share_with_others(found);
  int fd = result == CUDA_SUCCESS ? fcntl(found->fd, F_DUPFD_CLOEXEC, 3) : -1;
  pthread_mutex_unlock(&mutex);
  if (result != CUDA_SUCCESS) return result;
  if (fd < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  memcpy(shareableHandle, &fd, sizeof fd);
  return CUDA_SUCCESS;
}

/* Holds what the descriptor stands for.  When all its holders are gone it is charged anew: the descriptor alone kept it. */
static CUresult hold(physical *wanted) {
  if (sim_share_hold(&the_driver.session, wanted->share) == SIM_OK) return CUDA_SUCCESS;
  wanted->share = SIM_NO_SHARE;
  TRY(memory_charge(wanted->ordinal, wanted->size));
  CUresult result = share_with_others(wanted);
  if (result != CUDA_SUCCESS) memory_discharge(wanted->ordinal, wanted->size);
  return result;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *osHandle,
                                        CUmemAllocationHandleType shHandleType) {
  backing_note note;
  NEED(handle != NULL);
  TRY(driver_ready());
  if (shHandleType != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return CUDA_ERROR_NOT_SUPPORTED;
  int fd = fcntl((int)(intptr_t)osHandle, F_DUPFD_CLOEXEC, 3);
  if (fd < 0 || !backing_read(fd, BACKING_PHYSICAL, &note)) {
    if (fd >= 0) close(fd);
    return CUDA_ERROR_INVALID_VALUE;
  }
  physical wanted = {
      .fd = fd, .size = note.size, .on_card = note.on_card != 0, .share = note.share, .properties = note.properties};
  CUresult result = wanted.on_card ? backing_device(&note, &wanted.ordinal) : CUDA_SUCCESS;
  wanted.properties.location.id = wanted.on_card ? wanted.ordinal : note.properties.location.id;
  if (result == CUDA_SUCCESS && wanted.on_card) result = hold(&wanted);
  if (result == CUDA_SUCCESS && (result = make(&wanted, handle)) != CUDA_SUCCESS && wanted.on_card)
    sim_share_drop(&the_driver.session, wanted.share);
  if (result != CUDA_SUCCESS) close(fd);
  return result;
}
