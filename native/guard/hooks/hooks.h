/* The one list of what the guard hooks, and of what it calls itself.  Everything that is not in the first list reaches the driver
 * untouched.  A new hook is a line here, a prototype in cuda_api.h and a function with its logic. */
#ifndef GUARD_HOOKS_H
#define GUARD_HOOKS_H

/* X(library, exported name, name that cuGetProcAddress is asked for, CUDA version that brought this ABI, PTSZ twin or not) */
#define GUARD_HOOKS(X)                                                             \
  X(CUDA, cuGetProcAddress, cuGetProcAddress, 11030, LEGACY)                       \
  X(CUDA, cuGetProcAddress_v2, cuGetProcAddress, 12000, LEGACY)                    \
  X(CUDA, cuMemAlloc, cuMemAlloc, 2000, LEGACY)                                    \
  X(CUDA, cuMemAlloc_v2, cuMemAlloc, 3020, LEGACY)                                 \
  X(CUDA, cuMemAllocPitch, cuMemAllocPitch, 2000, LEGACY)                          \
  X(CUDA, cuMemAllocPitch_v2, cuMemAllocPitch, 3020, LEGACY)                       \
  X(CUDA, cuMemAllocManaged, cuMemAllocManaged, 6000, LEGACY)                      \
  X(CUDA, cuMemFree, cuMemFree, 2000, LEGACY)                                      \
  X(CUDA, cuMemFree_v2, cuMemFree, 3020, LEGACY)                                   \
  X(CUDA, cuMemAllocAsync, cuMemAllocAsync, 11020, LEGACY)                         \
  X(CUDA, cuMemAllocAsync_ptsz, cuMemAllocAsync, 11020, PTSZ)                      \
  X(CUDA, cuMemAllocFromPoolAsync, cuMemAllocFromPoolAsync, 11020, LEGACY)         \
  X(CUDA, cuMemAllocFromPoolAsync_ptsz, cuMemAllocFromPoolAsync, 11020, PTSZ)      \
  X(CUDA, cuMemFreeAsync, cuMemFreeAsync, 11020, LEGACY)                           \
  X(CUDA, cuMemFreeAsync_ptsz, cuMemFreeAsync, 11020, PTSZ)                        \
  X(CUDA, cuMemPoolCreate, cuMemPoolCreate, 11020, LEGACY)                         \
  X(CUDA, cuMemPoolDestroy, cuMemPoolDestroy, 11020, LEGACY)                       \
  X(CUDA, cuMemCreate, cuMemCreate, 10020, LEGACY)                                 \
  X(CUDA, cuMemRelease, cuMemRelease, 10020, LEGACY)                               \
  X(CUDA, cuMemRetainAllocationHandle, cuMemRetainAllocationHandle, 11000, LEGACY) \
  X(CUDA, cuMemMap, cuMemMap, 10020, LEGACY)                                       \
  X(CUDA, cuMemUnmap, cuMemUnmap, 10020, LEGACY)                                   \
  X(CUDA, cuArrayCreate, cuArrayCreate, 2000, LEGACY)                              \
  X(CUDA, cuArrayCreate_v2, cuArrayCreate, 3020, LEGACY)                           \
  X(CUDA, cuArray3DCreate, cuArray3DCreate, 2000, LEGACY)                          \
  X(CUDA, cuArray3DCreate_v2, cuArray3DCreate, 3020, LEGACY)                       \
  X(CUDA, cuArrayDestroy, cuArrayDestroy, 2000, LEGACY)                            \
  X(CUDA, cuMipmappedArrayCreate, cuMipmappedArrayCreate, 5000, LEGACY)            \
  X(CUDA, cuMipmappedArrayDestroy, cuMipmappedArrayDestroy, 5000, LEGACY)          \
  X(CUDA, cuCtxDestroy, cuCtxDestroy, 2000, LEGACY)                                \
  X(CUDA, cuCtxDestroy_v2, cuCtxDestroy, 4000, LEGACY)                             \
  X(CUDA, cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease, 7000, LEGACY)      \
  X(CUDA, cuDevicePrimaryCtxRelease_v2, cuDevicePrimaryCtxRelease, 11000, LEGACY)  \
  X(CUDA, cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset, 7000, LEGACY)          \
  X(CUDA, cuDevicePrimaryCtxReset_v2, cuDevicePrimaryCtxReset, 11000, LEGACY)      \
  X(CUDA, cuMemGetInfo, cuMemGetInfo, 2000, LEGACY)                                \
  X(CUDA, cuMemGetInfo_v2, cuMemGetInfo, 3020, LEGACY)                             \
  X(CUDA, cuDeviceTotalMem, cuDeviceTotalMem, 2000, LEGACY)                        \
  X(CUDA, cuDeviceTotalMem_v2, cuDeviceTotalMem, 3020, LEGACY)                     \
  X(NVML, nvmlDeviceGetMemoryInfo, nvmlDeviceGetMemoryInfo, 0, LEGACY)             \
  X(NVML, nvmlDeviceGetMemoryInfo_v2, nvmlDeviceGetMemoryInfo_v2, 0, LEGACY)

/* X(library, exported name): called by the guard, not hooked. */
#define GUARD_CALLS(X)                \
  X(CUDA, cuDeviceGetUuid)            \
  X(CUDA, cuDeviceGetUuid_v2)         \
  X(CUDA, cuDeviceGetDefaultMemPool)  \
  X(CUDA, cuDeviceGetCount)           \
  X(CUDA, cuDevicePrimaryCtxRetain)   \
  X(CUDA, cuDevicePrimaryCtxGetState) \
  X(CUDA, cuCtxGetCurrent)            \
  X(CUDA, cuCtxGetDevice)             \
  X(CUDA, cuCtxPushCurrent_v2)        \
  X(CUDA, cuCtxPopCurrent_v2)         \
  X(CUDA, cuStreamGetCtx)             \
  X(NVML, nvmlDeviceGetUUID)

enum guard_library { LIBRARY_CUDA, LIBRARY_NVML, LIBRARY_COUNT };
enum guard_twin { TWIN_LEGACY, TWIN_PTSZ };

enum guard_symbol {
#define X(library, name, base, since, twin) HOOK_##name,
  GUARD_HOOKS(X)
#undef X
      HOOK_COUNT,
  CALLS_START = HOOK_COUNT - 1,
#define X(library, name) CALL_##name,
  GUARD_CALLS(X)
#undef X
      SYMBOL_COUNT,
};

typedef void guard_function(void);

struct guard_symbol_info {
  const char *name;
  enum guard_library library;
  const char *base; /* hooks only, as the next three */
  guard_function *hook;
  int since;
  enum guard_twin twin;
};

/* By enum guard_symbol. */
extern const struct guard_symbol_info guard_symbols[SYMBOL_COUNT];

/* The hook with this exported name, or -1. */
int guard_hook_named(const char *name);

#endif
