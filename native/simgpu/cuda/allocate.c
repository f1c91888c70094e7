/* Allocation of device, managed and host memory. */
#include "capture.h"
#include "memory.h"
#include "queue.h"

#define PITCH_BYTES 512u

static CUresult allocate(size_t size, memory_kind kind, unsigned int flags, uintptr_t *address) {
  CUcontext current;
  TRY(context_current(&current));
  TRY(capture_refuse_unsafe());
  memory wanted = {.size = size, .kind = kind, .context = current, .ordinal = current->ordinal, .flags = flags};
  return memory_new(&wanted, address);
}

static CUresult allocate_device(CUdeviceptr *dptr, size_t size, memory_kind kind) {
  uintptr_t address = 0;
  TRY(allocate(size, kind, 0, &address));
  *dptr = address;
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize) {
  NEED(dptr != NULL);
  return allocate_device(dptr, bytesize, MEMORY_DEVICE);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height,
                            unsigned int ElementSizeBytes) {
  size_t size;
  NEED(dptr != NULL && pPitch != NULL);
  TRY(driver_ready());
  NEED(ElementSizeBytes == 4 || ElementSizeBytes == 8 || ElementSizeBytes == 16);
  NEED(WidthInBytes > 0 && Height > 0 && WidthInBytes <= SIZE_MAX - PITCH_BYTES);
  size_t pitch = (WidthInBytes + PITCH_BYTES - 1) & ~(size_t)(PITCH_BYTES - 1);
  if (__builtin_mul_overflow(pitch, Height, &size)) return CUDA_ERROR_OUT_OF_MEMORY;
  TRY(allocate_device(dptr, size, MEMORY_DEVICE));
  *pPitch = pitch;
  return CUDA_SUCCESS;
}

CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags) {
  NEED(dptr != NULL && (flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST));
  return allocate_device(dptr, bytesize, MEMORY_MANAGED);
}

CUresult cuMemFree_v2(CUdeviceptr dptr) {
  TRY(driver_ready());
  if (dptr == 0) return CUDA_SUCCESS;
  TRY(capture_refuse_unsafe());
  TRY(queue_wait_present());
  graph_memory *of_graph = graph_memory_at(dptr);
  if (of_graph != NULL) return graph_memory_free(of_graph);
  return memory_free((uintptr_t)dptr, MEMORY_DEVICE | MEMORY_MANAGED | MEMORY_EXTERNAL);
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
  CUcontext current;
  uint64_t used_bytes;
  NEED(free != NULL && total != NULL);
  TRY(context_current(&current));
  TRY(device_sound(current->ordinal));
  TRY(driver_error(sim_used(&the_driver.session, context_card(current), &used_bytes)));
  *total = the_driver.devices[current->ordinal].facts.memory_bytes;
  *free = used_bytes < *total ? *total - used_bytes : 0;
  return CUDA_SUCCESS;
}

/* ---- host memory ------------------------------------------------------------------------------------------------- */

static CUresult allocate_host(void **pp, size_t size, unsigned int flags) {
  uintptr_t address = 0;
  TRY(allocate(size, MEMORY_HOST, flags, &address));
  *pp = (void *)address;
  return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags) {
  NEED(pp != NULL);
  return allocate_host(pp, bytesize, Flags);
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize) {
  NEED(pp != NULL);
  return allocate_host(pp, bytesize, 0);
}

CUresult cuMemFreeHost(void *p) {
  TRY(driver_ready());
  TRY(queue_wait_present());
  return memory_free((uintptr_t)p, MEMORY_HOST);
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags) {
  CUcontext current;
  NEED(p != NULL && bytesize > 0 && bytesize <= SIZE_MAX / 2);
  TRY(context_current(&current));
  memory wanted = {
      .base = (uintptr_t)p, .size = bytesize, .kind = MEMORY_REGISTERED, .ordinal = current->ordinal, .flags = Flags};
  CUresult result = memory_record(&wanted);
  return result == CUDA_ERROR_ALREADY_MAPPED ? CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED : result;
}

CUresult cuMemHostUnregister(void *p) {
  memory gone;
  TRY(driver_ready());
  return memory_forget((uintptr_t)p, MEMORY_REGISTERED, &gone) ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags) {
  memory range;
  NEED(pdptr != NULL && Flags == 0);
  TRY(driver_ready());
  NEED(memory_find((uintptr_t)p, &range) && (range.kind & (MEMORY_HOST | MEMORY_REGISTERED)) != 0);
  *pdptr = (uintptr_t)p;
  return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned int *pFlags, void *p) {
  memory range;
  NEED(pFlags != NULL);
  TRY(driver_ready());
  NEED(memory_find((uintptr_t)p, &range) && range.kind == MEMORY_HOST);
  *pFlags = range.flags;
  return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr) {
  memory range;
  TRY(driver_ready());
  if (!memory_find((uintptr_t)dptr, &range)) return CUDA_ERROR_NOT_FOUND;
  if (pbase != NULL) *pbase = range.base;
  if (psize != NULL) *psize = range.size;
  return CUDA_SUCCESS;
}

/* ---- managed memory: hints --------------------------------------------------------------------------------------- */

static CUresult managed_range(CUdeviceptr address, size_t count) {
  memory range;
  TRY(driver_ready());
  NEED(count > 0 && memory_find((uintptr_t)address, &range) && range.kind == MEMORY_MANAGED);
  return memory_check_device(address, count);
}

CUresult cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUmemLocation location) {
  (void)advice;
  (void)location;
  return managed_range(devPtr, count);
}

CUresult cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device) {
  (void)advice;
  (void)device;
  return managed_range(devPtr, count);
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr devPtr, size_t count, CUmemLocation location, unsigned int flags,
                               CUstream hStream) {
  (void)location;
  (void)hStream;
  NEED(flags == 0);
  return managed_range(devPtr, count);
}

CUresult cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream) {
  (void)dstDevice;
  (void)hStream;
  return managed_range(devPtr, count);
}
