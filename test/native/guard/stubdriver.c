/* A driver library with every name that the guard hooks, for routes that the simulated GPU does not have (yet): old ABIs, twins,
 * physical memory, arrays; and with the manners that make hooking hard: it calls its own exported functions, and on wish
 * cuGetProcAddress answers with addresses that it does not export (STUB_PRIVATE=1). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hooks.h"

#define API __attribute__((visibility("default")))
enum { DEVICES = 2, MOST = 65536, TOTAL = 1 << 30, PITCH = 1024 };

CUresult cuInit(unsigned int flags);
CUresult cuCtxSetCurrent(CUcontext context);
long long stubHeld(int device);
long long stubLaunches(void); /* of stublaunch.c */
cuDeviceGetUuid_fn cuDeviceGetUuid;
cuDeviceGetCount_fn cuDeviceGetCount;
cuDeviceGetDefaultMemPool_fn cuDeviceGetDefaultMemPool;
cuDeviceGetMemPool_fn cuDeviceGetMemPool;
cuMemPoolGetAttribute_fn cuMemPoolGetAttribute;
cuMemAdvise_fn cuMemAdvise;
cuDeviceGetAttribute_fn cuDeviceGetAttribute;
cuDevicePrimaryCtxGetState_fn cuDevicePrimaryCtxGetState;
cuCtxGetCurrent_fn cuCtxGetCurrent;
cuCtxGetDevice_fn cuCtxGetDevice;
cuStreamGetCtx_fn cuStreamGetCtx;

struct CUctx_st {
  int device, references;
};

static struct {
  uint64_t size;
  int device, references;
  CUmemoryPool pool;
} pieces[MOST];
static struct CUctx_st contexts[DEVICES] = {{0, 0}, {1, 0}};
static _Thread_local CUcontext current;
static uint64_t last = 1, held[DEVICES], mapped[64];

static CUresult take(uint64_t *key, uint64_t size, int device) {
  if (held[device] + size > TOTAL) return CUDA_ERROR_OUT_OF_MEMORY;
  for (uint64_t tries = 0; pieces[last].references != 0 || last == 0; tries++) {
    if (tries == MOST) return CUDA_ERROR_OUT_OF_MEMORY;
    last = (last + 1) % MOST;
  }
  *key = last;
  pieces[last].size = size;
  pieces[last].device = device;
  pieces[last].references = 1;
  pieces[last].pool = NULL;
  held[device] += size;
  return CUDA_SUCCESS;
}

static CUresult drop(uint64_t key) {
  if (key == 0 || key >= MOST || pieces[key].references == 0) return 1;
  if (--pieces[key].references == 0) held[pieces[key].device] -= pieces[key].size;
  return CUDA_SUCCESS;
}

API long long stubHeld(int device) { return (long long)held[device]; }
API CUresult cuInit(unsigned int flags) { return (CUresult)flags; }
API CUresult cuDeviceGetCount(int *count) { return *count = DEVICES, 0; }
API CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  memset(uuid, 0x11 * (device + 1), sizeof *uuid);
  return 0;
}
API CUresult cuCtxSetCurrent(CUcontext context) { return current = context, 0; }
API CUresult cuCtxGetCurrent(CUcontext *context) { return *context = current, 0; }
API CUresult cuCtxGetDevice(CUdevice *device) { return current != NULL ? (*device = current->device, 0) : 201; }
API CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) { return (void)stream, *context = current, 0; }
API CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
  return *pool = (CUmemoryPool)(uintptr_t)(device + 1), 0;
}
API CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) { return cuDeviceGetDefaultMemPool(pool, device); }
API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  contexts[device].references++;
  return *context = &contexts[device], 0;
}
API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
  return *flags = 0, *active = contexts[device].references > 0, 0;
}

API CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  uint64_t key = 0;
  CUresult result = current != NULL ? take(&key, bytes, current->device) : 201;
  if (result == 0) *pointer = key;
  return result;
}
API CUresult cuMemFree_v2(CUdeviceptr pointer) { return drop(pointer); }
/* Through the exported names, hence through whoever interposed them. */
API CUresult cuMemAlloc(CUdeviceptr_v1 *pointer, unsigned int bytes) {
  CUdeviceptr wide = 0;
  CUresult result = cuMemAlloc_v2(&wide, bytes);
  *pointer = (CUdeviceptr_v1)wide;
  return result;
}
API CUresult cuMemFree(CUdeviceptr_v1 pointer) { return cuMemFree_v2(pointer); }
API CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t bytes, unsigned int flags) {
  return (void)flags, cuMemAlloc_v2(pointer, bytes);
}
/* Memory that prefers the host leaves the device. */
API CUresult cuMemAdvise(CUdeviceptr pointer, size_t bytes, CUmem_advise advice, CUdevice device) {
  (void)bytes;
  if (advice != CU_MEM_ADVISE_SET_PREFERRED_LOCATION || device != CU_DEVICE_CPU) return 0;
  held[pieces[pointer].device] -= pieces[pointer].size;
  return pieces[pointer].size = 0, 0;
}
API CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  (void)device;
  return *value = attribute == CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS && getenv("STUB_PASCAL") == NULL, 0;
}
API CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height,
                                unsigned int element) {
  (void)element;
  *pitch = (width + PITCH - 1) / PITCH * PITCH;
  return cuMemAlloc_v2(pointer, *pitch * height);
}
API CUresult cuMemAllocPitch(CUdeviceptr_v1 *pointer, unsigned int *pitch, unsigned int width, unsigned int height,
                             unsigned int element) {
  CUdeviceptr wide = 0;
  size_t found = 0;
  CUresult result = cuMemAllocPitch_v2(&wide, &found, width, height, element);
  *pointer = (CUdeviceptr_v1)wide;
  *pitch = (unsigned int)found;
  return result;
}
API CUresult cuMemAllocFromPoolAsync(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream) {
  uint64_t key = 0;
  (void)stream;
  CUresult result = take(&key, bytes, (int)(uintptr_t)pool - 1);
  if (result == 0) pieces[key].pool = pool;
  *pointer = key;
  return result;
}
API CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  if (current == NULL) return 201;
  return cuMemAllocFromPoolAsync(pointer, bytes, (CUmemoryPool)(uintptr_t)(current->device + 1), stream);
}
API CUresult cuMemAllocAsync_ptsz(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
  return cuMemAllocAsync(pointer, bytes, stream);
}
API CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return cuMemAllocFromPoolAsync(pointer, bytes, pool, stream);
}
API CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) { return (void)stream, drop(pointer); }
API CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream) { return (void)stream, drop(pointer); }
API CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *props) {
  return *pool = (CUmemoryPool)(uintptr_t)(props->location.id + 1), 0;
}
API CUresult cuMemPoolDestroy(CUmemoryPool pool) { return (void)pool, 0; }
API CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep) { return (void)pool, (void)keep, 0; }
API CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle, CUmemAllocationHandleType type,
                                                unsigned long long flags) {
  return (void)handle, (void)type, (void)flags, *pool = (CUmemoryPool)(uintptr_t)1, 0;
}
API CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
  uint64_t sum = 0;
  for (uint64_t key = 1; key < MOST; key++)
    sum += pieces[key].references > 0 && pieces[key].pool == pool ? pieces[key].size : 0;
  return (void)attribute, *(uint64_t *)value = sum, 0;
}
API CUresult cuStreamSynchronize(CUstream stream) { return (void)stream, 0; }
API CUresult cuStreamSynchronize_ptsz(CUstream stream) { return (void)stream, 0; }
API CUresult cuEventSynchronize(CUevent event) { return (void)event, 0; }
API CUresult cuCtxSynchronize(void) { return 0; }
API CUresult cuCtxSynchronize_v2(CUcontext context) { return (void)context, 0; }

API CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *prop,
                         unsigned long long flags) {
  uint64_t key = 0;
  (void)flags;
  CUresult result = take(&key, bytes, prop->location.id);
  *handle = key;
  return result;
}
API CUresult cuMemRelease(CUmemGenericAllocationHandle handle) { return drop(handle); }
API CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address) {
  *handle = mapped[((uintptr_t)address >> 20) % 64];
  pieces[*handle].references++;
  return 0;
}
API CUresult cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                      unsigned long long flags) {
  (void)bytes, (void)offset, (void)flags;
  if (pieces[handle].references == 0) return 1;
  pieces[handle].references++;
  mapped[(pointer >> 20) % 64] = handle;
  return 0;
}
API CUresult cuMemUnmap(CUdeviceptr pointer, size_t bytes) {
  for (uint64_t page = pointer >> 20; page << 20 < pointer + bytes; page++) (void)drop(mapped[page % 64]);
  return 0;
}

API CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
  uint64_t key = 0, height = d->Height > 0 ? d->Height : 1, depth = d->Depth > 0 ? d->Depth : 1;
  CUresult result = take(&key, d->Width * height * depth, current->device);
  *array = (CUarray)(uintptr_t)key;
  return result;
}
API CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *d) {
  CUDA_ARRAY3D_DESCRIPTOR whole = {d->Width, d->Height, 0, d->Format, d->NumChannels, 0};
  return cuArray3DCreate_v2(array, &whole);
}
API CUresult cuArray3DCreate(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR_v1 *d) {
  CUDA_ARRAY3D_DESCRIPTOR whole = {d->Width, d->Height, d->Depth, d->Format, d->NumChannels, d->Flags};
  return cuArray3DCreate_v2(array, &whole);
}
API CUresult cuArrayCreate(CUarray *array, const CUDA_ARRAY_DESCRIPTOR_v1 *d) {
  CUDA_ARRAY3D_DESCRIPTOR whole = {d->Width, d->Height, 0, d->Format, d->NumChannels, 0};
  return cuArray3DCreate_v2(array, &whole);
}
API CUresult cuArrayDestroy(CUarray array) { return drop((uintptr_t)array); }
API CUresult cuMipmappedArrayCreate(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels) {
  return (void)levels, cuArray3DCreate_v2((CUarray *)array, d);
}
API CUresult cuMipmappedArrayDestroy(CUmipmappedArray array) { return drop((uintptr_t)array); }

API CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  if (free_bytes != NULL) *free_bytes = TOTAL - held[current->device];
  if (total != NULL) *total = TOTAL;
  return 0;
}
API CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total) {
  return *free_bytes = TOTAL - (unsigned int)held[current->device], *total = TOTAL, 0;
}
API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { return (void)device, *bytes = TOTAL, 0; }
API CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device) { return (void)device, *bytes = TOTAL, 0; }
API CUresult cuCtxDestroy_v2(CUcontext context) { return (void)context, 0; }
API CUresult cuCtxDestroy(CUcontext context) { return (void)context, 0; }
static CUresult wipe(CUdevice device) {
  for (uint64_t key = 1; key < MOST; key++) {
    if (pieces[key].device == device) pieces[key].references = 0;
  }
  return held[device] = 0, 0;
}
API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return --contexts[device].references == 0 ? wipe(device) : 0;
}
API CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return cuDevicePrimaryCtxRelease_v2(device); }
API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) { return contexts[device].references = 0, wipe(device); }
API CUresult cuDevicePrimaryCtxReset(CUdevice device) { return cuDevicePrimaryCtxReset_v2(device); }
API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
  return (void)device, (void)memory, 3;
}
API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
  return (void)device, (void)memory, 3;
}

static CUresult private_alloc(CUdeviceptr *pointer, size_t bytes) { return cuMemAlloc_v2(pointer, bytes); }

/* Names that have one ABI. */
static const struct {
  const char *name;
  guard_function *function;
} plain[] = {
    {"cuInit", (guard_function *)cuInit},
    {"cuCtxSetCurrent", (guard_function *)cuCtxSetCurrent},
    {"cuDevicePrimaryCtxRetain", (guard_function *)cuDevicePrimaryCtxRetain},
    {"cuDeviceGetDefaultMemPool", (guard_function *)cuDeviceGetDefaultMemPool},
    {"stubHeld", (guard_function *)stubHeld},
    {"stubLaunches", (guard_function *)stubLaunches},
};

/* name, version, flags to address, as NVIDIA documents it: the newest ABI that the version knows. */
static void *choose(const char *symbol, int version, uint64_t flags) {
  guard_function *best = NULL;
  int newest = -1;
  if (getenv("STUB_PRIVATE") != NULL && strcmp(symbol, "cuMemAlloc") == 0) return (void *)(uintptr_t)private_alloc;
#define X(library, name, base, since, twin)                                                                          \
  if (strcmp(symbol, #base) == 0 && since <= version && (since > newest || (since == newest && (flags & 2) != 0))) { \
    best = (guard_function *)name;                                                                                   \
    newest = since;                                                                                                  \
  }
  GUARD_HOOKS(X)
#undef X
  for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
    if (strcmp(symbol, plain[i].name) == 0) best = plain[i].function;
  }
  return (void *)(uintptr_t)best;
}
API CUresult cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
  *function = choose(symbol, version, flags);
  return *function != NULL ? 0 : 500;
}
API CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                                 CUdriverProcAddressQueryResult *status) {
  *function = choose(symbol, version, flags);
  *status = *function != NULL ? 0 : 1;
  return 0;
}
