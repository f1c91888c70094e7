/* Prints the least cost in nanoseconds of an allocation with its free, and of a view, over many short runs. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cuda_api.h"

enum { RUNS = 200, CALLS = 500 };

typedef CUresult set_fn(CUcontext);
typedef CUresult alloc_fn(CUdeviceptr *, size_t);
typedef CUresult free_fn(CUdeviceptr);
typedef CUresult view_fn(size_t *, size_t *);

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(void) {
  void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
  if (cuda == NULL) return 2;
  cuDevicePrimaryCtxRetain_fn *retain = (cuDevicePrimaryCtxRetain_fn *)dlsym(cuda, "cuDevicePrimaryCtxRetain");
  set_fn *set = (set_fn *)dlsym(cuda, "cuCtxSetCurrent");
  alloc_fn *take = (alloc_fn *)dlsym(cuda, "cuMemAlloc_v2");
  free_fn *give = (free_fn *)dlsym(cuda, "cuMemFree_v2");
  view_fn *view = (view_fn *)dlsym(cuda, "cuMemGetInfo_v2");
  CUcontext context;
  CUdeviceptr pointer;
  size_t free_bytes, total;
  double pair = 1e9, look = 1e9;
  if (retain(&context, 0) != 0 || set(context) != 0) return 3;
  for (int run = 0; run < RUNS; run++) {
    double start = now();
    for (int i = 0; i < CALLS; i++) {
      if (take(&pointer, 4096) != 0 || give(pointer) != 0) return 4;
    }
    double middle = now();
    for (int i = 0; i < CALLS; i++) (void)view(&free_bytes, &total);
    double end = now();
    if ((middle - start) / CALLS < pair) pair = (middle - start) / CALLS;
    if ((end - middle) / CALLS < look) look = (end - middle) / CALLS;
  }
  printf("pair %.1f view %.1f\n", pair, look);
  return 0;
}
