/* Code, and stacks and heaps of kernels: the driver alone knows what it takes for them, and takes it before it can be asked. */
#include "driver.h"
#include "gate.h"
#include "overhead.h"

/* True when what the driver took fits, or nobody can say. */
static bool fits(bool limited, CUresult result) {
  struct device_place place;
  return !limited || result != CUDA_SUCCESS || !device_current(&place) || overhead_measure(place.device);
}

static CUresult settle_module(bool limited, CUresult result, const CUmodule *module) {
  __typeof__(&cuModuleUnload) unload = REAL(cuModuleUnload);
  if (fits(limited, result) || unload == NULL) return result;
  (void)unload(*module);
  (void)fits(true, CUDA_SUCCESS);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult settle_library(bool limited, CUresult result, const CUlibrary *library) {
  __typeof__(&cuLibraryUnload) unload = REAL(cuLibraryUnload);
  if (fits(limited, result) || unload == NULL) return result;
  (void)unload(*library);
  (void)fits(true, CUDA_SUCCESS);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

GUARD_EXPORT CUresult cuModuleLoad(CUmodule *module, const char *name) {
  BEGIN_HOOK(cuModuleLoad, CUDA_ERROR_NOT_INITIALIZED);
  return settle_module(limited, real(module, name), module);
}

GUARD_EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  BEGIN_HOOK(cuModuleLoadData, CUDA_ERROR_NOT_INITIALIZED);
  return settle_module(limited, real(module, image), module);
}

GUARD_EXPORT CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, CUjit_option *options,
                                         void **values) {
  BEGIN_HOOK(cuModuleLoadDataEx, CUDA_ERROR_NOT_INITIALIZED);
  return settle_module(limited, real(module, image, count, options, values), module);
}

GUARD_EXPORT CUresult cuModuleLoadFatBinary(CUmodule *module, const void *image) {
  BEGIN_HOOK(cuModuleLoadFatBinary, CUDA_ERROR_NOT_INITIALIZED);
  return settle_module(limited, real(module, image), module);
}

GUARD_EXPORT CUresult cuModuleUnload(CUmodule module) {
  BEGIN_HOOK(cuModuleUnload, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(module);
  (void)fits(limited, result);
  return result;
}

GUARD_EXPORT CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *options, void **values,
                                        unsigned int count, CUlibraryOption *library_options, void **library_values,
                                        unsigned int library_count) {
  BEGIN_HOOK(cuLibraryLoadData, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(library, code, options, values, count, library_options, library_values, library_count);
  return settle_library(limited, result, library);
}

GUARD_EXPORT CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *name, CUjit_option *options, void **values,
                                            unsigned int count, CUlibraryOption *library_options, void **library_values,
                                            unsigned int library_count) {
  BEGIN_HOOK(cuLibraryLoadFromFile, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(library, name, options, values, count, library_options, library_values, library_count);
  return settle_library(limited, result, library);
}

GUARD_EXPORT CUresult cuLibraryUnload(CUlibrary library) {
  BEGIN_HOOK(cuLibraryUnload, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(library);
  (void)fits(limited, result);
  return result;
}

/* A heap or stacks that do not fit are made as large as they were. */
GUARD_EXPORT CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  BEGIN_HOOK(cuCtxSetLimit, CUDA_ERROR_NOT_INITIALIZED);
  cuCtxGetLimit_fn *get = DRIVER(cuCtxGetLimit);
  size_t before = 0;
  bool known = limited && get != NULL && get(&before, limit) == CUDA_SUCCESS;
  CUresult result = real(limit, value);
  if (fits(limited, result) || !known) return result;
  (void)real(limit, before);
  (void)fits(true, CUDA_SUCCESS);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

GUARD_EXPORT CUresult cuGreenCtxCreate(CUgreenCtx *context, CUdevResourceDesc desc, CUdevice device,
                                       unsigned int flags) {
  BEGIN_HOOK(cuGreenCtxCreate, CUDA_ERROR_NOT_INITIALIZED);
  __typeof__(&cuGreenCtxDestroy) destroy = REAL(cuGreenCtxDestroy);
  CUresult result = real(context, desc, device, flags);
  if (!limited || result != CUDA_SUCCESS || destroy == NULL || overhead_measure(device)) return result;
  (void)destroy(*context);
  (void)overhead_measure(device);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

GUARD_EXPORT CUresult cuGreenCtxDestroy(CUgreenCtx context) {
  BEGIN_HOOK(cuGreenCtxDestroy, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(context);
  (void)fits(limited, result);
  return result;
}
