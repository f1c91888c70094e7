/* Keeps a simulated card busy, for tests that watch several processes share one.
 *
 *   workload saturate NS [BLOCKS STREAMS]  prints `ready`, then launches kernels of NS ns without pause until it is killed
 *   workload finish NS COUNT               launches COUNT kernels, waits for them, and says what an event pair measured
 *   workload hold NS                       launches one kernel, prints `ready`, and waits for it
 * A kernel of many blocks fills the card.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STREAMS 32
#define FULL_GRID 100000u

#define OK(call)                                                           \
  do {                                                                     \
    int got_ = (int)(call);                                                \
    if (got_ != 0) {                                                       \
      fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, got_); \
      exit(1);                                                             \
    }                                                                      \
  } while (0)

static CUfunction kernel;
static CUstream streams[MOST_STREAMS];

static void start(int stream_count) {
  CUdevice device;
  CUcontext context;
  CUmodule module;
  OK(cuInit(0));
  OK(cuDeviceGet(&device, 0));
  OK(cuDevicePrimaryCtxRetain(&context, device));
  OK(cuCtxSetCurrent(context));
  OK(cuModuleLoadData(&module, "simgpu\nkernel simgpu_sleep(u64 ns)\n"));
  OK(cuModuleGetFunction(&kernel, module, "simgpu_sleep"));
  for (int i = 0; i < stream_count; i++) OK(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
}

static void launch(unsigned long long ns, unsigned int blocks, CUstream stream) {
  void *parameters[] = {&ns};
  OK(cuLaunchKernel(kernel, blocks, 1, 1, 1024, 1, 1, 0, stream, parameters, NULL));
}

static void say_ready(void) {
  puts("ready");
  fflush(stdout);
}

static void saturate(unsigned long long ns, unsigned int blocks, int stream_count) {
  start(stream_count);
  launch(ns, blocks, streams[0]);
  say_ready();
  for (;;)
    for (int i = 0; i < stream_count; i++) launch(ns, blocks, streams[i]);
}

static int finish(unsigned long long ns, long count) {
  CUevent begin;
  CUevent end;
  float ms;
  start(1);
  OK(cuEventCreate(&begin, 0));
  OK(cuEventCreate(&end, 0));
  OK(cuEventRecord(begin, streams[0]));
  for (long i = 0; i < count; i++) launch(ns, FULL_GRID, streams[0]);
  OK(cuEventRecord(end, streams[0]));
  OK(cuEventSynchronize(end));
  OK(cuEventElapsedTime_v2(&ms, begin, end));
  printf("%.6f\n", (double)ms);
  return 0;
}

static int hold(unsigned long long ns) {
  start(1);
  launch(ns, FULL_GRID, streams[0]);
  say_ready();
  OK(cuStreamSynchronize(streams[0]));
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 3) return 64;
  unsigned long long ns = strtoull(argv[2], NULL, 10);
  if (argc == 3 && strcmp(argv[1], "hold") == 0) return hold(ns);
  if (argc == 4 && strcmp(argv[1], "finish") == 0) return finish(ns, atol(argv[3]));
  if (argc == 3 && strcmp(argv[1], "saturate") == 0) saturate(ns, FULL_GRID, 1);
  if (argc == 5 && strcmp(argv[1], "saturate") == 0)
    saturate(ns, (unsigned int)atol(argv[3]), atoi(argv[4]) % MOST_STREAMS);
  return 64;
}
