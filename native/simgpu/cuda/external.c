/* External memory: what another interface exported as an opaque descriptor.  Here that is physical memory of this or of
 * another process, which stays charged to those who hold it. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "memory.h"

struct CUextMemory_st {
  object object;
  int fd;
  uint64_t size;
  CUdevice ordinal;
  bool counted; /* it is on the card, and a share */
  sim_share_name share;
};

static bool valid(CUexternalMemory handle) { return object_is(handle, OBJECT_EXTERNAL); }

CUresult cuImportExternalMemory(CUexternalMemory *extMem_out, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *memHandleDesc) {
  CUcontext current;
  backing_note note;
  CUdevice ordinal = 0;
  NEED(extMem_out != NULL && memHandleDesc != NULL);
  TRY(context_current(&current));
  if (memHandleDesc->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD) return CUDA_ERROR_NOT_SUPPORTED;
  NEED((memHandleDesc->flags & ~(unsigned int)CUDA_EXTERNAL_MEMORY_DEDICATED) == 0);
  NEED(backing_read(memHandleDesc->handle.fd, BACKING_PHYSICAL, &note));
  NEED(memHandleDesc->size > 0 && memHandleDesc->size <= note.size);
  const bool counted = note.on_card != 0;
  if (counted) TRY(backing_device(&note, &ordinal));
  CUexternalMemory made = object_new(OBJECT_EXTERNAL, sizeof *made);
  if (made == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  if (counted && sim_share_hold(&the_driver.session, note.share) != SIM_OK) {
    object_delete(made);
    return CUDA_ERROR_INVALID_VALUE;
  }
  /* The descriptor is the driver's from now on. */
  made->fd = memHandleDesc->handle.fd;
  made->size = memHandleDesc->size;
  made->ordinal = ordinal;
  made->counted = counted;
  made->share = note.share;
  *extMem_out = made;
  return CUDA_SUCCESS;
}

CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *devPtr, CUexternalMemory extMem,
                                         const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *bufferDesc) {
  CUcontext current;
  NEED(devPtr != NULL && bufferDesc != NULL && bufferDesc->flags == 0);
  TRY(context_current(&current));
  if (!valid(extMem)) return CUDA_ERROR_INVALID_HANDLE;
  NEED(bufferDesc->size > 0 && bufferDesc->size <= extMem->size &&
       bufferDesc->offset <= extMem->size - bufferDesc->size && bufferDesc->offset % 4096 == 0);
  void *pages = backing_map(extMem->fd, bufferDesc->offset, bufferDesc->size, NULL);
  if (pages == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  memory wanted = {.base = (uintptr_t)pages,
                   .size = bufferDesc->size,
                   .kind = MEMORY_EXTERNAL,
                   .context = current,
                   .ordinal = extMem->ordinal,
                   .shared = true,
                   .fd = -1,
                   .share = SIM_NO_SHARE};
  /* A buffer keeps the memory, also when the handle is gone. */
  if (extMem->counted && sim_share_hold(&the_driver.session, extMem->share) == SIM_OK) wanted.share = extMem->share;
  CUresult result = memory_record(&wanted);
  if (result == CUDA_SUCCESS) {
    *devPtr = wanted.base;
  } else {
    sim_share_drop(&the_driver.session, wanted.share);
    munmap(pages, bufferDesc->size);
  }
  return result;
}

CUresult cuDestroyExternalMemory(CUexternalMemory extMem) {
  TRY(driver_ready());
  if (!valid(extMem)) return CUDA_ERROR_INVALID_HANDLE;
  close(extMem->fd);
  if (extMem->counted) sim_share_drop(&the_driver.session, extMem->share);
  object_delete(extMem);
  return CUDA_SUCCESS;
}
