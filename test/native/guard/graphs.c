/* Makes and runs CUDA graphs that allocate, as it is told: one command a line on standard input, one answer a line on standard output,
 * the result first.
 *
 *   open, init DEVICE     as client.c                   alloc sync BYTES   memory without a graph
 *   made HOW BYTES        a graph, and its number; it allocates the bytes twice, one half after the other, and HOW says by what:
 *     capture pool nodes node params upload child       each also with -kept: what it allocates outlives the launch
 *   launch N, upload N    in the default stream         elsewhere N        launch in another stream
 *   free N                what the graph left           destroy N          the graph
 *   trim, sync            the driver's                  into N M           puts N's allocation into M, whose child it becomes
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_api.h"

enum { MOST_GRAPHS = 64, PARTS = 2 };

static void *library;
static CUstream stream, other;

static void *find(const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) exit(2);
  return found;
}

#define CALL(name, ...) ((__typeof__(&(name)))find(#name))(__VA_ARGS__)
#define TRY(...)                               \
  do {                                         \
    CUresult tried_ = (__VA_ARGS__);           \
    if (tried_ != CUDA_SUCCESS) return tried_; \
  } while (0)

struct made {
  CUgraph graph;
  CUgraphExec exec;
  CUgraphNode child; /* of the graph, if it has one */
  CUdeviceptr pointers[PARTS];
};

static struct made all[MOST_GRAPHS];
static int count;

static CUresult capture(struct made *made, size_t bytes, bool kept, bool from_pool) {
  CUmemoryPool pool;
  TRY(CALL(cuDeviceGetDefaultMemPool, &pool, 0));
  TRY(CALL(cuStreamBeginCapture_v2, stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  for (int i = 0; i < PARTS; i++) {
    if (from_pool) TRY(CALL(cuMemAllocFromPoolAsync, &made->pointers[i], bytes / PARTS, pool, stream));
    if (!from_pool) TRY(CALL(cuMemAllocAsync, &made->pointers[i], bytes / PARTS, stream));
  }
  for (int i = 0; i < PARTS && !kept; i++) TRY(CALL(cuMemFreeAsync, made->pointers[i], stream));
  return CALL(cuStreamEndCapture, stream, &made->graph);
}

static CUresult add(struct made *made, size_t bytes, bool kept, bool generic) {
  const CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
  CUgraphNode last = NULL;
  TRY(CALL(cuGraphCreate, &made->graph, 0));
  for (int i = 0; i < PARTS; i++) {
    CUDA_MEM_ALLOC_NODE_PARAMS old = {.poolProps = props, .bytesize = bytes / PARTS};
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
    params.alloc.poolProps = props;
    params.alloc.bytesize = bytes / PARTS;
    CUgraphNode *after = last != NULL ? &last : NULL;
    if (generic) TRY(CALL(cuGraphAddNode, &last, made->graph, after, after != NULL, &params));
    if (!generic) TRY(CALL(cuGraphAddMemAllocNode, &last, made->graph, after, after != NULL, &old));
    made->pointers[i] = generic ? params.alloc.dptr : old.dptr;
  }
  for (int i = 0; i < PARTS && !kept; i++)
    TRY(CALL(cuGraphAddMemFreeNode, &last, made->graph, &last, 1, made->pointers[i]));
  return CUDA_SUCCESS;
}

static CUresult make(struct made *made, const char *how, size_t bytes) {
  bool kept = strstr(how, "-kept") != NULL;
  CUDA_GRAPH_INSTANTIATE_PARAMS params = {.hUploadStream = stream};
  switch (how[0] == 'n' ? how[4] : how[0]) {
    case 'c':
      if (how[1] == 'h') break;
      TRY(capture(made, bytes, kept, false));
      return CALL(cuGraphInstantiateWithFlags, &made->exec, made->graph, 0);
    case 'p':
      if (how[1] == 'a') {
        TRY(add(made, bytes, kept, false));
        return CALL(cuGraphInstantiateWithParams, &made->exec, made->graph, &params);
      }
      TRY(capture(made, bytes, kept, true));
      return CALL(cuGraphInstantiate_v2, &made->exec, made->graph, NULL, NULL, 0);
    case 'u':
      params.flags = CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD;
      TRY(add(made, bytes, kept, false));
      return CALL(cuGraphInstantiateWithParams_ptsz, &made->exec, made->graph, &params);
    default:
      TRY(add(made, bytes, kept, how[4] != 's'));
      return CALL(cuGraphInstantiate, &made->exec, made->graph, NULL, NULL, 0);
  }
  struct made inner = {.graph = NULL};
  TRY(add(&inner, bytes, kept, true));
  memcpy(made->pointers, inner.pointers, sizeof inner.pointers);
  TRY(CALL(cuGraphCreate, &made->graph, 0));
  TRY(CALL(cuGraphAddChildGraphNode, &made->child, made->graph, NULL, 0, inner.graph));
  return CALL(cuGraphInstantiateWithFlags, &made->exec, made->graph, 0);
}

static CUresult free_kept(const struct made *made) {
  TRY(CALL(cuMemFreeAsync, made->pointers[0], stream));
  return CALL(cuMemFree_v2, made->pointers[1]);
}

static CUresult start(int device) {
  CUcontext context;
  TRY(CALL(cuInit, 0));
  TRY(CALL(cuDevicePrimaryCtxRetain, &context, device));
  TRY(CALL(cuCtxSetCurrent, context));
  TRY(CALL(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING));
  return CALL(cuStreamCreate, &other, CU_STREAM_NON_BLOCKING);
}

static CUresult obey(const char *word, const char *argument, unsigned long long number) {
  CUdeviceptr pointer;
  int n = atoi(argument) % MOST_GRAPHS;
  if (strcmp(word, "init") == 0) return start(n);
  if (strcmp(word, "alloc") == 0) return CALL(cuMemAlloc_v2, &pointer, number);
  if (strcmp(word, "made") == 0) return make(&all[count++ % MOST_GRAPHS], argument, number);
  if (strcmp(word, "launch") == 0) return CALL(cuGraphLaunch, all[n].exec, stream);
  if (strcmp(word, "elsewhere") == 0) return CALL(cuGraphLaunch_ptsz, all[n].exec, other);
  if (strcmp(word, "upload") == 0) return CALL(cuGraphUpload, all[n].exec, stream);
  if (strcmp(word, "free") == 0) return free_kept(&all[n]);
  if (strcmp(word, "destroy") == 0) return CALL(cuGraphExecDestroy, all[n].exec);
  if (strcmp(word, "trim") == 0) return CALL(cuDeviceGraphMemTrim, 0);
  if (strcmp(word, "sync") == 0) return CALL(cuCtxSynchronize);
  if (strcmp(word, "into") == 0) {
    struct made *to = &all[number % MOST_GRAPHS];
    return CALL(cuGraphExecChildGraphNodeSetParams, to->exec, to->child, all[n].graph);
  }
  return CUDA_ERROR_UNKNOWN;
}

int main(void) {
  char line[256];
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin) != NULL) {
    char word[32] = "", argument[32] = "";
    unsigned long long number = 0;
    (void)sscanf(line, "%31s %31s %llu", word, argument, &number);
    if (strcmp(word, "quit") == 0) break;
    if (strcmp(word, "open") == 0) {
      library = dlopen("libcuda.so.1", RTLD_NOW);
      printf("%d\n", library != NULL);
    } else {
      CUresult result = obey(word, argument, number);
      if (strcmp(word, "made") == 0) printf("%d %d\n", (int)result, count - 1);
      if (strcmp(word, "made") != 0) printf("%d\n", (int)result);
    }
  }
  return 0;
}
