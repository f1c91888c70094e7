/* Every way to launch: kernels, cooperative ones, those of CUDA 2, graphs; and the twins with a default stream for each thread. */
#include <stddef.h>

#include "driver.h"
#include "gate.h"
#include "graph.h"
#include "limiter.h"

typedef CUresult launch_kernel_fn(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                                  unsigned int, unsigned int, CUstream, void **, void **);
typedef CUresult launch_kernel_ex_fn(const CUlaunchConfig *, CUfunction, void **, void **);
typedef CUresult launch_cooperative_fn(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                                       unsigned int, unsigned int, CUstream, void **);

/* The stream that a call means; where the driver's own name for it differs from NULL, events must use that name. */
static inline CUstream meant(CUstream stream, bool per_thread) {
  return per_thread && stream == NULL ? CU_STREAM_PER_THREAD : stream;
}

static inline uint64_t fold(uint64_t x, uint64_t y, uint64_t z) {
  return x ^ (y << 21 | y >> 43) ^ (z << 42 | z >> 22);
}

static inline struct compute_work kernel_work(CUfunction function, uint64_t grid, uint64_t block, CUstream stream) {
  return (struct compute_work){.stream = stream,
                               .key = compute_key(function, grid * 0x9E3779B97F4A7C15u + block),
                               .function_key = compute_key(function, UINT64_MAX)};
}

/* How a hook ends: the call of the driver between entering and leaving. */
#define LAUNCH(work, call)          \
  struct compute_launch launch_;    \
  compute_enter(&launch_, &(work)); \
  CUresult result_ = (call);        \
  compute_leave(&launch_, result_); \
  return result_

static inline CUresult kernel(launch_kernel_fn *real, bool per_thread, CUfunction f, unsigned int gx, unsigned int gy,
                              unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                              CUstream stream, void **parameters, void **extra) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  if (!limited || !compute_wanted()) return real(f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
  struct compute_work work = kernel_work(f, fold(gx, gy, gz), fold(bx, by, bz), meant(stream, per_thread));
  LAUNCH(work, real(f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra));
}

static inline CUresult kernel_ex(launch_kernel_ex_fn *real, bool per_thread, const CUlaunchConfig *config, CUfunction f,
                                 void **parameters, void **extra) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  if (!limited || config == NULL || !compute_wanted()) return real(config, f, parameters, extra);
  uint64_t grid = fold(config->gridDimX, config->gridDimY, config->gridDimZ);
  uint64_t block = fold(config->blockDimX, config->blockDimY, config->blockDimZ);
  struct compute_work work = kernel_work(f, grid, block, meant(config->hStream, per_thread));
  LAUNCH(work, real(config, f, parameters, extra));
}

static inline CUresult cooperative(launch_cooperative_fn *real, bool per_thread, CUfunction f, unsigned int gx,
                                   unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                                   unsigned int shared, CUstream stream, void **parameters) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  if (!limited || !compute_wanted()) return real(f, gx, gy, gz, bx, by, bz, shared, stream, parameters);
  struct compute_work work = kernel_work(f, fold(gx, gy, gz), fold(bx, by, bz), meant(stream, per_thread));
  LAUNCH(work, real(f, gx, gy, gz, bx, by, bz, shared, stream, parameters));
}

static inline CUresult graph(graph_launch_fn *real, bool per_thread, CUgraphExec exec, CUstream stream) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  CUstream seen = meant(stream, per_thread);
  if (!limited) return real(exec, stream);
  if (!compute_wanted()) return graph_launch(real, exec, stream, seen);
  struct compute_work work = {.stream = seen, .key = compute_key(exec, 0)};
  LAUNCH(work, graph_launch(real, exec, stream, seen));
}

GUARD_EXPORT CUresult cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                                     unsigned int by, unsigned int bz, unsigned int shared, CUstream stream,
                                     void **parameters, void **extra) {
  return kernel(REAL(cuLaunchKernel), false, f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
}

GUARD_EXPORT CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                                          unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                                          CUstream stream, void **parameters, void **extra) {
  return kernel(REAL(cuLaunchKernel_ptsz), true, f, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra);
}

GUARD_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **parameters, void **extra) {
  return kernel_ex(REAL(cuLaunchKernelEx), false, config, f, parameters, extra);
}

GUARD_EXPORT CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f, void **parameters,
                                            void **extra) {
  return kernel_ex(REAL(cuLaunchKernelEx_ptsz), true, config, f, parameters, extra);
}

GUARD_EXPORT CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                                                unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                                                CUstream stream, void **parameters) {
  return cooperative(REAL(cuLaunchCooperativeKernel), false, f, gx, gy, gz, bx, by, bz, shared, stream, parameters);
}

GUARD_EXPORT CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz,
                                                     unsigned int bx, unsigned int by, unsigned int bz,
                                                     unsigned int shared, CUstream stream, void **parameters) {
  return cooperative(REAL(cuLaunchCooperativeKernel_ptsz), true, f, gx, gy, gz, bx, by, bz, shared, stream, parameters);
}

GUARD_EXPORT CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  return graph(REAL(cuGraphLaunch), false, exec, stream);
}

GUARD_EXPORT CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) {
  return graph(REAL(cuGraphLaunch_ptsz), true, exec, stream);
}

/* One kernel on several devices: each launch is entered, as far as the fixed room goes, then all are left. */
GUARD_EXPORT CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS_v1 *list, unsigned int count,
                                                           unsigned int flags) {
  enum { MOST_DEVICES = 16 };
  struct compute_launch launches[MOST_DEVICES];
  BEGIN_HOOK(cuLaunchCooperativeKernelMultiDevice, CUDA_ERROR_NOT_INITIALIZED);
  unsigned int entered = !limited || list == NULL || !compute_wanted() ? 0
                         : count < MOST_DEVICES                        ? count
                                                                       : MOST_DEVICES;
  for (unsigned int i = 0; i < entered; i++) {
    const CUDA_LAUNCH_PARAMS_v1 *one = &list[i];
    uint64_t grid = fold(one->gridDimX, one->gridDimY, one->gridDimZ);
    uint64_t block = fold(one->blockDimX, one->blockDimY, one->blockDimZ);
    struct compute_work work = kernel_work(one->function, grid, block, one->hStream);
    compute_enter(&launches[i], &work);
  }
  CUresult result = real(list, count, flags);
  for (unsigned int i = 0; i < entered; i++) compute_leave(&launches[i], result);
  return result;
}

/* CUDA 2: the block's shape was set before, by a call of its own. */
GUARD_EXPORT CUresult cuLaunch(CUfunction f) {
  BEGIN_HOOK(cuLaunch, CUDA_ERROR_NOT_INITIALIZED);
  if (!limited || !compute_wanted()) return real(f);
  struct compute_work work = kernel_work(f, 1, 0, NULL);
  LAUNCH(work, real(f));
}

GUARD_EXPORT CUresult cuLaunchGrid(CUfunction f, int width, int height) {
  BEGIN_HOOK(cuLaunchGrid, CUDA_ERROR_NOT_INITIALIZED);
  if (!limited || !compute_wanted()) return real(f, width, height);
  struct compute_work work = kernel_work(f, fold((unsigned int)width, (unsigned int)height, 1), 0, NULL);
  LAUNCH(work, real(f, width, height));
}

GUARD_EXPORT CUresult cuLaunchGridAsync(CUfunction f, int width, int height, CUstream stream) {
  BEGIN_HOOK(cuLaunchGridAsync, CUDA_ERROR_NOT_INITIALIZED);
  if (!limited || !compute_wanted()) return real(f, width, height, stream);
  struct compute_work work = kernel_work(f, fold((unsigned int)width, (unsigned int)height, 1), 0, stream);
  LAUNCH(work, real(f, width, height, stream));
}
