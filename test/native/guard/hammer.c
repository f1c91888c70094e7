/* Allocates and frees at random, by every route to device memory that the driver has, until its time is over or it is killed.
 *
 * usage: hammer SEED OPERATIONS MOST_BYTES [THREADS [ROUTES]].  OPERATIONS are those of each thread; 0: until killed.  ROUTES are letters:
 *   s sync   m managed   p pitched   a array   y mipmapped   d stream-ordered   o an own pool   v physical memory   c context   g graph
 * Prints how many allocations succeeded and how many were refused, last; ends with status 1 on any other result than these.  A route that
 * the driver does not support is left out. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda_api.h"

enum { PIECES = 24, MOST_THREADS = 16, GRANULE = 2 << 20, CONTEXT_TRIES = 60000 };

static void *library;
static CUcontext context;
static uint64_t operations, most_bytes;
static const char *routes = "smpaydovcg";

static void *find(const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) exit(2);
  return found;
}

/* Calls a function of the driver, looked up once. */
#define CALL(name, ...)                                                  \
  ({                                                                     \
    static __typeof__(&(name)) function_;                                \
    if (function_ == NULL) function_ = (__typeof__(&(name)))find(#name); \
    function_(__VA_ARGS__);                                              \
  })

static uint64_t next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

struct piece {
  char route; /* 0: none */
  CUdeviceptr pointer;
  void *object; /* array, context, graph made ready */
  bool freed;   /* by the graph itself */
  CUmemGenericAllocationHandle handle;
  size_t bytes;
};

struct work {
  uint64_t seed, random, granted, refused;
  CUmemoryPool pool; /* of the thread */
  CUstream stream;
  bool failed;
};

/* ---- routes ---- */

static CUresult take_pitched(struct piece *piece, size_t bytes) {
  size_t pitch;
  return CALL(cuMemAllocPitch_v2, &piece->pointer, &pitch, bytes / 16 + 1, 16, 4);
}

static CUresult take_array(struct piece *piece, size_t bytes) {
  CUDA_ARRAY_DESCRIPTOR_v2 shape = {1024, bytes / 4096 % 65536 + 1, CU_AD_FORMAT_FLOAT, 1};
  return CALL(cuArrayCreate_v2, (CUarray *)&piece->object, &shape);
}

static CUresult take_mipmapped(struct piece *piece, size_t bytes) {
  CUDA_ARRAY3D_DESCRIPTOR_v2 shape = {512, bytes / 4096 % 32768 + 1, 0, CU_AD_FORMAT_UNSIGNED_INT16, 4, 0};
  return CALL(cuMipmappedArrayCreate, (CUmipmappedArray *)&piece->object, &shape, 3);
}

static CUresult take_context(struct piece *piece, size_t bytes) {
  CUcontext popped;
  CUresult result = CALL(cuCtxCreate_v2, (CUcontext *)&piece->object, 0, 0);
  if (result != CUDA_SUCCESS) return result;
  result = CALL(cuMemAlloc_v2, &piece->pointer, bytes);
  (void)CALL(cuCtxPopCurrent_v2, &popped);
  if (result != CUDA_SUCCESS) (void)CALL(cuCtxDestroy_v2, popped);
  return result;
}

/* Created, mapped, and in one of four cases already released or retained once more. */
static CUresult take_physical(struct work *work, struct piece *piece, size_t bytes) {
  CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
  CUmemGenericAllocationHandle again;
  piece->bytes = (bytes + GRANULE - 1) / GRANULE * GRANULE;
  CUresult result = CALL(cuMemCreate, &piece->handle, piece->bytes, &prop, 0);
  if (result != CUDA_SUCCESS) return result;
  result = CALL(cuMemAddressReserve, &piece->pointer, piece->bytes, 0, 0, 0);
  if (result == CUDA_SUCCESS) result = CALL(cuMemMap, piece->pointer, piece->bytes, 0, piece->handle, 0);
  if (result == CUDA_SUCCESS && next(&work->random) % 2 == 0) {
    result = CALL(cuMemRelease, piece->handle);
    piece->handle = 0;
    if (result == CUDA_SUCCESS && next(&work->random) % 2 == 0) {
      result = CALL(cuMemRetainAllocationHandle, &again, (void *)(uintptr_t)piece->pointer);
      piece->handle = again;
    }
  }
  return result;
}

static CUresult give_physical(struct work *work, struct piece *piece) {
  bool release_first = next(&work->random) % 2 == 0;
  CUresult result = CUDA_SUCCESS;
  if (release_first && piece->handle != 0) result = CALL(cuMemRelease, piece->handle);
  if (result == CUDA_SUCCESS) result = CALL(cuMemUnmap, piece->pointer, piece->bytes);
  if (result == CUDA_SUCCESS && !release_first && piece->handle != 0) result = CALL(cuMemRelease, piece->handle);
  return result == CUDA_SUCCESS ? CALL(cuMemAddressFree, piece->pointer, piece->bytes) : result;
}

/* One of two frees again what it allocates, and is launched once more.  A capture would not stand what other threads do. */
static CUresult take_graph(struct work *work, struct piece *piece, size_t bytes) {
  CUDA_MEM_ALLOC_NODE_PARAMS params = {
      .bytesize = bytes,
      .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}}};
  CUgraph graph;
  CUgraphNode node;
  piece->freed = next(&work->random) % 2 == 0;
  CUresult result = CALL(cuGraphCreate, &graph, 0);
  if (result == CUDA_SUCCESS) result = CALL(cuGraphAddMemAllocNode, &node, graph, NULL, 0, &params);
  piece->pointer = params.dptr;
  if (result == CUDA_SUCCESS && piece->freed)
    result = CALL(cuGraphAddMemFreeNode, &node, graph, &node, 1, piece->pointer);
  if (result == CUDA_SUCCESS) result = CALL(cuGraphInstantiateWithFlags, (CUgraphExec *)&piece->object, graph, 0);
  if (result != CUDA_SUCCESS) return result == CUDA_ERROR_OUT_OF_MEMORY ? CUDA_ERROR_UNKNOWN : result;
  (void)CALL(cuGraphDestroy, graph);
  result = CALL(cuGraphLaunch, piece->object, work->stream);
  if (result == CUDA_SUCCESS && piece->freed) result = CALL(cuGraphLaunch, piece->object, work->stream);
  if (result != CUDA_SUCCESS) (void)CALL(cuGraphExecDestroy, piece->object);
  return result;
}

static CUresult give_graph(struct work *work, struct piece *piece) {
  CUresult result = piece->freed ? CUDA_SUCCESS : CALL(cuMemFreeAsync, piece->pointer, work->stream);
  return result == CUDA_SUCCESS ? CALL(cuGraphExecDestroy, piece->object) : result;
}

static CUresult take(struct work *work, struct piece *piece, size_t bytes) {
  switch (piece->route) {
    case 's': return CALL(cuMemAlloc_v2, &piece->pointer, bytes);
    case 'm': return CALL(cuMemAllocManaged, &piece->pointer, bytes, CU_MEM_ATTACH_GLOBAL);
    case 'p': return take_pitched(piece, bytes);
    case 'a': return take_array(piece, bytes);
    case 'y': return take_mipmapped(piece, bytes);
    case 'd': return CALL(cuMemAllocAsync, &piece->pointer, bytes, work->stream);
    case 'o': return CALL(cuMemAllocFromPoolAsync, &piece->pointer, bytes, work->pool, work->stream);
    case 'g': return take_graph(work, piece, bytes);
    case 'v': return take_physical(work, piece, bytes);
    default: return take_context(piece, bytes);
  }
}

static CUresult give(struct work *work, struct piece *piece) {
  switch (piece->route) {
    case 'a': return CALL(cuArrayDestroy, piece->object);
    case 'y': return CALL(cuMipmappedArrayDestroy, piece->object);
    case 'd':
    case 'o': return CALL(cuMemFreeAsync, piece->pointer, work->stream);
    case 'g': return give_graph(work, piece);
    case 'v': return give_physical(work, piece);
    case 'c': return CALL(cuCtxDestroy_v2, piece->object);
    default: return CALL(cuMemFree_v2, piece->pointer);
  }
}

/* ---- one thread ---- */

/* What a program does to pools and to what graphs keep now and then. */
static void unsettle(struct work *work) {
  cuuint64_t keep = next(&work->random) % 2 == 0 ? UINT64_MAX : 0;
  CUresult result = CUDA_SUCCESS;
  switch (next(&work->random) % 5) {
    case 0: result = CALL(cuMemPoolSetAttribute, work->pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep); break;
    case 1: result = CALL(cuMemPoolTrimTo, work->pool, next(&work->random) % most_bytes); break;
    case 2: result = CALL(cuStreamSynchronize, work->stream); break;
    case 3: result = CALL(cuDeviceGraphMemTrim, 0); break;
    default: result = CALL(cuCtxSynchronize);
  }
  work->failed |= result != CUDA_SUCCESS;
}

static void step(struct work *work, struct piece *piece) {
  if (piece->route != 0) {
    work->failed |= give(work, piece) != CUDA_SUCCESS;
    piece->route = 0;
    return;
  }
  *piece = (struct piece){.route = routes[next(&work->random) % strlen(routes)]};
  CUresult result = take(work, piece, next(&work->random) % most_bytes + 1);
  if (result == CUDA_SUCCESS) {
    work->granted++;
  } else {
    work->refused += result == CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_ERROR_OUT_OF_MEMORY && result != CUDA_ERROR_NOT_SUPPORTED) {
      fprintf(stderr, "route %c: %d\n", piece->route, (int)result);
      work->failed = true;
    }
    piece->route = 0;
  }
}

static bool begin(struct work *work) {
  CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                          .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE}};
  return CALL(cuCtxSetCurrent, context) == CUDA_SUCCESS && CALL(cuMemPoolCreate, &work->pool, &props) == CUDA_SUCCESS &&
         CALL(cuStreamCreate, &work->stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS;
}

/* Its pool goes with allocations left, half of the time. */
static bool end(struct work *work, struct piece pieces[PIECES]) {
  bool fine = true, early = next(&work->random) % 2 == 0;
  if (early) fine = CALL(cuMemPoolDestroy, work->pool) == CUDA_SUCCESS;
  for (int i = 0; i < PIECES; i++) {
    if (pieces[i].route != 0) fine = give(work, &pieces[i]) == CUDA_SUCCESS && fine;
  }
  fine = CALL(cuStreamSynchronize, work->stream) == CUDA_SUCCESS && fine;
  fine = CALL(cuDeviceGraphMemTrim, 0) == CUDA_SUCCESS && fine;
  if (!early) fine = CALL(cuMemPoolDestroy, work->pool) == CUDA_SUCCESS && fine;
  return CALL(cuStreamDestroy_v2, work->stream) == CUDA_SUCCESS && fine;
}

static void *hammer(void *argument) {
  struct work *work = argument;
  struct piece pieces[PIECES] = {{0}};
  work->random = work->seed * 0x9E3779B97F4A7C15u + 1;
  work->failed = !begin(work);
  for (uint64_t i = 0; (operations == 0 || i < operations) && !work->failed; i++) {
    step(work, &pieces[next(&work->random) % PIECES]);
    if (next(&work->random) % 64 == 0) unsettle(work);
  }
  if (!work->failed) work->failed = !end(work, pieces);
  return NULL;
}

/* Among others who fill the share a context finds room some time. */
static bool find_context(void) {
  const struct timespec nap = {.tv_nsec = 1000000};
  CUresult result = CALL(cuInit, 0);
  for (int tries = 0; result == CUDA_SUCCESS && tries < CONTEXT_TRIES; tries++) {
    result = CALL(cuDevicePrimaryCtxRetain, &context, 0);
    if (result == CUDA_SUCCESS) return true;
    if (result != CUDA_ERROR_OUT_OF_MEMORY) break;
    nanosleep(&nap, NULL);
    result = CUDA_SUCCESS;
  }
  return false;
}

int main(int count, char **arguments) {
  if (count < 4) return 2;
  int threads = count > 4 ? atoi(arguments[4]) : 1;
  struct work work[MOST_THREADS] = {{0}};
  pthread_t handles[MOST_THREADS];
  library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL || threads > MOST_THREADS) return 2;
  operations = strtoull(arguments[2], NULL, 10);
  most_bytes = strtoull(arguments[3], NULL, 10);
  if (count > 5) routes = arguments[5];
  if (!find_context()) return 3;
  printf("ready\n");
  fflush(stdout);
  uint64_t granted = 0, refused = 0;
  bool failed = false;
  for (int i = 0; i < threads; i++) {
    work[i].seed = strtoull(arguments[1], NULL, 10) * MOST_THREADS + (uint64_t)i + 1;
    failed |= pthread_create(&handles[i], NULL, hammer, &work[i]) != 0;
  }
  for (int i = 0; i < threads; i++) {
    pthread_join(handles[i], NULL);
    granted += work[i].granted;
    refused += work[i].refused;
    failed |= work[i].failed;
  }
  printf("%llu %llu\n", (unsigned long long)granted, (unsigned long long)refused);
  return failed;
}
