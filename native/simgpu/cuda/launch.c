/* Functions and their launches.  A kernel does nothing but take time: what its argument says if it is simgpu's own, what
 * the node's table says otherwise, and none by default. */
#include "launch.h"

#include <string.h>

#include "capture.h"
#include "mps.h"

#define MOST_THREADS 1024u
#define MOST_GRID_YZ 65535u
#define PTX_VERSION_OF_CAPABILITY(card) ((int)((card)->capability_major * 10 + (card)->capability_minor))

CUresult launch_check(CUfunction function, const unsigned int grid[3], const unsigned int block[3]) {
  TRY(function_check(function));
  NEED(grid[0] > 0 && grid[1] > 0 && grid[2] > 0 && block[0] > 0 && block[1] > 0 && block[2] > 0);
  NEED(grid[0] <= INT32_MAX && grid[1] <= MOST_GRID_YZ && grid[2] <= MOST_GRID_YZ);
  NEED(block[0] <= 1024 && block[1] <= 1024 && block[2] <= 64 && block[0] * block[1] * block[2] <= MOST_THREADS);
  return CUDA_SUCCESS;
}

/* The kernel's share of the card while it runs, by threads alone, in thousandths. */
static uint32_t occupancy_of(const sim_card *card, const unsigned int grid[3], const unsigned int block[3]) {
  uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
  uint64_t at_once = (uint64_t)card->sm_count * (card->threads_per_sm / (block[0] * block[1] * block[2]));
  if (blocks >= at_once) return SIM_FULL_OCCUPANCY;
  uint64_t share = blocks * SIM_FULL_OCCUPANCY / at_once;
  return share > 0 ? (uint32_t)share : 1;
}

/* The first parameter, however the program passes it. */
static uint64_t first_parameter(void **parameters, void **extra) {
  uint64_t value = 0;
  const void *from = parameters != NULL ? parameters[0] : NULL;
  for (; from == NULL && extra != NULL && *extra != CU_LAUNCH_PARAM_END; extra += 2)
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) from = extra[1];
  if (from != NULL) memcpy(&value, from, sizeof value);
  return value;
}

uint64_t launch_duration_ns(CUfunction function, void **parameters, void **extra) {
  if (function->sleeps) return first_parameter(parameters, extra);
  uint32_t version = sim_kernel_version(&the_driver.session);
  if (__atomic_load_n(&function->table_version, __ATOMIC_ACQUIRE) != version) {
    __atomic_store_n(&function->duration_ns, sim_kernel_duration(&the_driver.session, function->name),
                     __ATOMIC_RELAXED);
    __atomic_store_n(&function->table_version, version, __ATOMIC_RELEASE);
  }
  return __atomic_load_n(&function->duration_ns, __ATOMIC_RELAXED);
}

CUresult launch_put(CUstream stream, uint64_t duration_ns, const unsigned int grid[3], const unsigned int block[3]) {
  sim_count_launch(&the_driver.session, context_card(stream->context));
  if (duration_ns == 0 && queue_idle(stream->queue)) return CUDA_SUCCESS;
  uint32_t occupancy = occupancy_of(&the_driver.devices[stream->context->ordinal].facts, grid, block);
  mps_confine(&occupancy, &duration_ns);
  const sim_item kernel = {.kind = SIM_ITEM_KERNEL, .value = duration_ns, .occupancy = occupancy};
  return queue_put(stream->queue, &kernel, NULL, NULL);
}

typedef struct shape {
  unsigned int grid[3];
  unsigned int block[3];
  unsigned int shared;
} shape;

static CUresult capture_kernel(CUfunction function, const shape *of, CUstream stream, void **parameters, void **extra,
                               bool *captured) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_KERNEL,
                              .kernel = {.func = function,
                                         .gridDimX = of->grid[0],
                                         .gridDimY = of->grid[1],
                                         .gridDimZ = of->grid[2],
                                         .blockDimX = of->block[0],
                                         .blockDimY = of->block[1],
                                         .blockDimZ = of->block[2],
                                         .sharedMemBytes = of->shared,
                                         .kernelParams = parameters,
                                         .extra = extra}};
  return capture_node(stream, &params, captured);
}

static CUresult launch(CUfunction function, const shape *of, CUstream handle, void **parameters, void **extra) {
  CUstream stream;
  bool captured = false;
  NEED(parameters == NULL || extra == NULL);
  TRY(stream_find(handle, &stream));
  TRY(launch_check(function, of->grid, of->block));
  NEED(of->shared <= the_driver.devices[stream->context->ordinal].facts.shared_bytes_per_sm);
  if (capture_any()) TRY(capture_kernel(function, of, stream, parameters, extra, &captured));
  if (captured) return CUDA_SUCCESS;
  return launch_put(stream, launch_duration_ns(function, parameters, extra), of->grid, of->block);
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                        unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                        unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra) {
  const shape of = {{gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes};
  return launch(f, &of, hStream, kernelParams, extra);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra) {
  NEED(config != NULL);
  const shape of = {{config->gridDimX, config->gridDimY, config->gridDimZ},
                    {config->blockDimX, config->blockDimY, config->blockDimZ},
                    config->sharedMemBytes};
  return launch(f, &of, config->hStream, kernelParams, extra);
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
