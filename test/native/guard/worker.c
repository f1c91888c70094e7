/* Keeps a card as busy as it may, until it is killed.
 *
 * usage: worker MODE NANOSECONDS [STREAMS [DEVICE]]
 *   sync    launches and waits, again and again       async  launches as fast as the driver takes it
 *   vary    async, durations between none and twice   burst  async in batches of 20, with waiting and rests of 2 ms between them
 *   graph   a graph of ten kernels, again and again   told   as many launches as a line on standard input says, then waits
 *   ranks   on two cards, a kernel on each, then waits for both
 * STREAMS at once, each kernel with its part of the card.  Prints "ready" before the first launch. */
#include <cuda.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_STREAMS = 64, BATCH = 20, NODES = 10, CARDS = 2 };

static void *cuda;

static void *find(const char *name) {
  void *found = dlsym(cuda, name);
  if (found == NULL) exit(3);
  return found;
}

#define CALL(name, ...)                                                 \
  do {                                                                  \
    CUresult result_ = ((__typeof__(&(name)))find(#name))(__VA_ARGS__); \
    if (result_ != CUDA_SUCCESS) {                                      \
      fprintf(stderr, "%s: %d\n", #name, result_);                      \
      exit(4);                                                          \
    }                                                                   \
  } while (0)

static struct card {
  CUcontext context;
  CUfunction kernel;
  CUstream streams[MOST_STREAMS];
} cards[CARDS];

static unsigned stream_count = 1, blocks;
static __typeof__(&cuLaunchKernel) launch_kernel;

static void open_card(struct card *card, CUdevice device) {
  static const char image[] = "simgpu\nkernel simgpu_sleep(u64 ns)\n";
  CUmodule module;
  int multiprocessors, threads;
  CALL(cuDevicePrimaryCtxRetain, &card->context, device);
  CALL(cuCtxSetCurrent, card->context);
  CALL(cuModuleLoadData, &module, image);
  CALL(cuModuleGetFunction, &card->kernel, module, "simgpu_sleep");
  for (unsigned i = 0; i < stream_count; i++) CALL(cuStreamCreate, &card->streams[i], CU_STREAM_NON_BLOCKING);
  CALL(cuDeviceGetAttribute, &multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  CALL(cuDeviceGetAttribute, &threads, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, device);
  blocks = (unsigned)(multiprocessors * threads) / 1024 / stream_count;
}

static void launch(struct card *card, unsigned stream, uint64_t ns) {
  void *parameters[] = {&ns};
  CUresult result =
      launch_kernel(card->kernel, blocks, 1, 1, 1024, 1, 1, 0, card->streams[stream % stream_count], parameters, NULL);
  if (result != CUDA_SUCCESS) exit(5);
}

static uint64_t next(uint64_t most) {
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % (most + 1);
}

static void synchronize(struct card *card) {
  for (unsigned i = 0; i < stream_count; i++) CALL(cuStreamSynchronize, card->streams[i]);
}

static void run_graph(struct card *card, uint64_t ns) {
  CUgraph graph;
  CUgraphExec exec;
  CALL(cuStreamBeginCapture_v2, card->streams[0], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  for (int i = 0; i < NODES; i++) launch(card, 0, ns);
  CALL(cuStreamEndCapture, card->streams[0], &graph);
  CALL(cuGraphInstantiateWithFlags, &exec, graph, 0);
  __typeof__(&cuGraphLaunch) launch_graph = (__typeof__(&cuGraphLaunch))find("cuGraphLaunch");
  for (unsigned i = 0;; i++) {
    if (launch_graph(exec, card->streams[i % stream_count]) != CUDA_SUCCESS) exit(5);
  }
}

static void run_ranks(uint64_t ns) {
  for (;;) {
    for (int i = 0; i < CARDS; i++) {
      CALL(cuCtxSetCurrent, cards[i].context);
      launch(&cards[i], 0, ns);
    }
    for (int i = 0; i < CARDS; i++) CALL(cuStreamSynchronize, cards[i].streams[0]);
  }
}

/* Each byte on standard input is one burst of a million launches at most, answered when it is over. */
static void run_told(struct card *card, uint64_t ns) {
  char line[32];
  while (fgets(line, sizeof line, stdin) != NULL) {
    long count = strtol(line, NULL, 10);
    for (long i = 0; i < count; i++) launch(card, (unsigned)i, ns);
    synchronize(card);
    printf("done\n");
  }
}

static void run(struct card *card, const char *mode, uint64_t ns) {
  const struct timespec rest = {.tv_nsec = 2000000};
  for (unsigned i = 0;; i++) {
    launch(card, i, strcmp(mode, "vary") == 0 ? next(2 * ns) : ns);
    if (strcmp(mode, "sync") == 0) CALL(cuStreamSynchronize, card->streams[i % stream_count]);
    if (strcmp(mode, "burst") == 0 && i % BATCH == BATCH - 1) {
      synchronize(card);
      nanosleep(&rest, NULL);
    }
  }
}

int main(int count, char **arguments) {
  if (count < 3) return 2;
  const char *mode = arguments[1];
  uint64_t ns = strtoull(arguments[2], NULL, 10);
  if (count > 3) stream_count = (unsigned)strtoul(arguments[3], NULL, 10);
  CUdevice device = count > 4 ? atoi(arguments[4]) : 0;
  cuda = dlopen("libcuda.so.1", RTLD_NOW);
  if (cuda == NULL || stream_count < 1 || stream_count > MOST_STREAMS) return 2;
  launch_kernel = (__typeof__(&cuLaunchKernel))find("cuLaunchKernel");
  CALL(cuInit, 0);
  bool ranks = strcmp(mode, "ranks") == 0;
  if (ranks) open_card(&cards[1], 1);
  open_card(&cards[0], ranks ? 0 : device);
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("ready\n");
  if (ranks) run_ranks(ns);
  if (strcmp(mode, "graph") == 0) run_graph(&cards[0], ns);
  if (strcmp(mode, "told") == 0) run_told(&cards[0], ns);
  if (strcmp(mode, "told") != 0) run(&cards[0], mode, ns);
  return 0;
}
