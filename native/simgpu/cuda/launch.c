/* Functions and their launches.  A launch is checked and counted; the kernel itself does nothing and takes no time. */
#include "module.h"
#include "stream.h"

#define MOST_THREADS 1024u
#define MOST_GRID_YZ 65535u
#define PTX_VERSION_OF_CAPABILITY(card) ((int)((card)->capability_major * 10 + (card)->capability_minor))

static CUresult check_shape(const unsigned int grid[3], const unsigned int block[3]) {
  NEED(grid[0] > 0 && grid[1] > 0 && grid[2] > 0 && block[0] > 0 && block[1] > 0 && block[2] > 0);
  NEED(grid[0] <= INT32_MAX && grid[1] <= MOST_GRID_YZ && grid[2] <= MOST_GRID_YZ);
  NEED(block[0] <= 1024 && block[1] <= 1024 && block[2] <= 64 && block[0] * block[1] * block[2] <= MOST_THREADS);
  return CUDA_SUCCESS;
}

static CUresult launch(CUfunction function, const unsigned int grid[3], const unsigned int block[3],
                       unsigned int shared, CUstream stream) {
  CUcontext current;
  TRY(function_check(function));
  TRY(context_current(&current));
  TRY(stream_check(stream));
  TRY(check_shape(grid, block));
  NEED(shared <= the_driver.devices[current->ordinal].facts.shared_bytes_per_sm);
  sim_count_launch(&the_driver.session, context_card(current));
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                        unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                        unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra) {
  NEED(kernelParams == NULL || extra == NULL);
  return launch(f, (unsigned int[]){gridDimX, gridDimY, gridDimZ}, (unsigned int[]){blockDimX, blockDimY, blockDimZ},
                sharedMemBytes, hStream);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra) {
  NEED(config != NULL && (kernelParams == NULL || extra == NULL));
  return launch(f, (unsigned int[]){config->gridDimX, config->gridDimY, config->gridDimZ},
                (unsigned int[]){config->blockDimX, config->blockDimY, config->blockDimZ}, config->sharedMemBytes,
                config->hStream);
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                                   unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                                   unsigned int sharedMemBytes, CUstream hStream, void **kernelParams) {
  return cuLaunchKernel(f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes, hStream,
                        kernelParams, NULL);
}

/* ---- functions --------------------------------------------------------------------------------------------------- */

CUresult cuFuncGetName(const char **name, CUfunction hfunc) {
  NEED(name != NULL);
  TRY(function_check(hfunc));
  *name = hfunc->name;
  return CUDA_SUCCESS;
}

CUresult cuFuncGetModule(CUmodule *hmod, CUfunction hfunc) {
  NEED(hmod != NULL);
  TRY(function_check(hfunc));
  *hmod = hfunc->module;
  return CUDA_SUCCESS;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function) {
  NEED(state != NULL);
  TRY(function_check(function));
  *state = CU_FUNCTION_LOADING_STATE_LOADED;
  return CUDA_SUCCESS;
}

CUresult cuFuncLoad(CUfunction function) { return function_check(function); }

CUresult cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc) {
  NEED(pi != NULL && attrib < CU_FUNC_ATTRIBUTE_MAX);
  TRY(function_check(hfunc));
  const sim_card *card = &the_driver.devices[0].facts;
  switch (attrib) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *pi = (int)MOST_THREADS; break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *pi = 32; break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *pi = PTX_VERSION_OF_CAPABILITY(card); break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *pi = hfunc->dynamic_shared_bytes != 0 ? hfunc->dynamic_shared_bytes : 49152;
      break;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *pi = hfunc->preferred_carveout; break;
    default: *pi = 0;
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value) {
  TRY(function_check(hfunc));
  switch (attrib) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      NEED(value >= 0 && (unsigned int)value <= the_driver.devices[0].facts.shared_bytes_per_sm);
      hfunc->dynamic_shared_bytes = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      NEED(value >= -1 && value <= 100);
      hfunc->preferred_carveout = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE: return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config) {
  (void)config;
  return function_check(hfunc);
}

CUresult cuFuncSetSharedMemConfig(CUfunction hfunc, CUsharedconfig config) {
  (void)config;
  return function_check(hfunc);
}

/* ---- occupancy: by threads alone --------------------------------------------------------------------------------- */

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *numBlocks, CUfunction func, int blockSize,
                                                              size_t dynamicSMemSize, unsigned int flags) {
  CUcontext current;
  NEED(numBlocks != NULL && blockSize > 0 && flags <= CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE);
  TRY(function_check(func));
  TRY(context_current(&current));
  const sim_card *card = &the_driver.devices[current->ordinal].facts;
  *numBlocks = 0;
  if ((unsigned int)blockSize > MOST_THREADS || dynamicSMemSize > card->shared_bytes_per_sm) return CUDA_SUCCESS;
  unsigned int blocks = card->threads_per_sm / (unsigned int)blockSize;
  if (dynamicSMemSize > 0 && card->shared_bytes_per_sm / dynamicSMemSize < blocks)
    blocks = (unsigned int)(card->shared_bytes_per_sm / dynamicSMemSize);
  *numBlocks = (int)(blocks < 32 ? blocks : 32);
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func, int blockSize,
                                                     size_t dynamicSMemSize) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(numBlocks, func, blockSize, dynamicSMemSize, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *minGridSize, int *blockSize, CUfunction func,
                                                   CUoccupancyB2DSize blockSizeToDynamicSMemSize,
                                                   size_t dynamicSMemSize, int blockSizeLimit, unsigned int flags) {
  CUcontext current;
  int blocks;
  NEED(minGridSize != NULL && blockSize != NULL && blockSizeLimit >= 0);
  TRY(function_check(func));
  TRY(context_current(&current));
  int size = blockSizeLimit > 0 && blockSizeLimit < (int)MOST_THREADS ? blockSizeLimit : (int)MOST_THREADS;
  size_t shared = blockSizeToDynamicSMemSize != NULL ? blockSizeToDynamicSMemSize(size) : dynamicSMemSize;
  TRY(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, func, size, shared, flags));
  *blockSize = size;
  *minGridSize = blocks * (int)the_driver.devices[current->ordinal].facts.sm_count;
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
                                          CUoccupancyB2DSize blockSizeToDynamicSMemSize, size_t dynamicSMemSize,
                                          int blockSizeLimit) {
  return cuOccupancyMaxPotentialBlockSizeWithFlags(minGridSize, blockSize, func, blockSizeToDynamicSMemSize,
                                                   dynamicSMemSize, blockSizeLimit, 0);
}
