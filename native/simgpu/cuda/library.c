/* Libraries: modules that belong to no context, and kernels, which are their functions. */
#include "module.h"

struct CUlib_st {
  object object;
  CUmodule module;
};

static CUresult library_check(CUlibrary library) {
  TRY(driver_ready());
  return object_is(library, OBJECT_LIBRARY) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult make(const void *code, const char *path, CUlibrary *made) {
  NEED(made != NULL);
  TRY(driver_ready());
  CUlibrary library = object_new(OBJECT_LIBRARY, sizeof *library);
  if (library == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result =
      path != NULL ? module_new_from_file(path, NULL, &library->module) : module_new(code, NULL, &library->module);
  if (result == CUDA_SUCCESS)
    *made = library;
  else
    object_delete(library);
  return result;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions, void **jitOptionsValues,
                           unsigned int numJitOptions, CUlibraryOption *libraryOptions, void **libraryOptionValues,
                           unsigned int numLibraryOptions) {
  NEED(numJitOptions == 0 || (jitOptions != NULL && jitOptionsValues != NULL));
  (void)libraryOptions;
  (void)libraryOptionValues;
  (void)numLibraryOptions;
  return make(code, NULL, library);
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *fileName, CUjit_option *jitOptions,
                               void **jitOptionsValues, unsigned int numJitOptions, CUlibraryOption *libraryOptions,
                               void **libraryOptionValues, unsigned int numLibraryOptions) {
  NEED(fileName != NULL && (numJitOptions == 0 || (jitOptions != NULL && jitOptionsValues != NULL)));
  (void)libraryOptions;
  (void)libraryOptionValues;
  (void)numLibraryOptions;
  return make(NULL, fileName, library);
}

CUresult cuLibraryUnload(CUlibrary library) {
  TRY(library_check(library));
  module_delete(library->module);
  object_delete(library);
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *pKernel, CUlibrary library, const char *name) {
  CUfunction function;
  NEED(pKernel != NULL);
  TRY(library_check(library));
  TRY(module_function(library->module, name, &function));
  *pKernel = (CUkernel)function;
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernelCount(unsigned int *count, CUlibrary lib) {
  NEED(count != NULL);
  TRY(library_check(lib));
  *count = lib->module->function_count;
  return CUDA_SUCCESS;
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int numKernels, CUlibrary lib) {
  NEED(kernels != NULL && numKernels > 0);
  TRY(library_check(lib));
  return cuModuleEnumerateFunctions((CUfunction *)kernels, numKernels, lib->module);
}

CUresult cuLibraryGetModule(CUmodule *pMod, CUlibrary library) {
  CUcontext current;
  NEED(pMod != NULL);
  TRY(library_check(library));
  TRY(context_current(&current));
  *pMod = library->module;
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name) {
  TRY(library_check(library));
  return module_variable(library->module, name, dptr, bytes);
}

CUresult cuLibraryGetManaged(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name) {
  NEED((dptr != NULL || bytes != NULL) && name != NULL);
  TRY(library_check(library));
  return CUDA_ERROR_NOT_FOUND; /* PTX has no managed variables of its own */
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

CUresult cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel) {
  CUcontext current;
  NEED(pFunc != NULL);
  TRY(function_check((CUfunction)kernel));
  TRY(context_current(&current));
  *pFunc = (CUfunction)kernel;
  return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char **name, CUkernel hfunc) { return cuFuncGetName(name, (CUfunction)hfunc); }

CUresult cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev) {
  gpu *found;
  TRY(driver_device(dev, &found));
  return cuFuncGetAttribute(pi, attrib, (CUfunction)kernel);
}

CUresult cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev) {
  gpu *found;
  TRY(driver_device(dev, &found));
  return cuFuncSetAttribute((CUfunction)kernel, attrib, val);
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev) {
  gpu *found;
  TRY(driver_device(dev, &found));
  return cuFuncSetCacheConfig((CUfunction)kernel, config);
}
