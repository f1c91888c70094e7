/* Allocates and frees at random until its time is over or it is killed.
 *
 * usage: hammer SEED OPERATIONS MOST_BYTES [THREADS].  Prints how many allocations succeeded and how many were refused; ends with
 * status 1 on any other result.  OPERATIONS 0: until killed. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hooks.h"

enum { PIECES = 24, MOST_THREADS = 16 };

typedef CUresult init_fn(unsigned int);
typedef CUresult set_fn(CUcontext);
typedef CUresult alloc_fn(CUdeviceptr *, size_t);
typedef CUresult free_fn(CUdeviceptr);

static alloc_fn *alloc_memory;
static free_fn *free_memory;
static set_fn *set_context;
static CUcontext context;
static uint64_t operations, most_bytes;

static uint64_t next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

struct work {
  uint64_t seed, granted, refused;
  int failed;
};

static void *hammer(void *argument) {
  struct work *work = argument;
  CUdeviceptr pieces[PIECES] = {0};
  uint64_t random = work->seed * 0x9E3779B97F4A7C15u + 1;
  work->failed = set_context(context) != CUDA_SUCCESS;
  for (uint64_t i = 0; (operations == 0 || i < operations) && !work->failed; i++) {
    CUdeviceptr *piece = &pieces[next(&random) % PIECES];
    if (*piece != 0) {
      work->failed |= free_memory(*piece) != CUDA_SUCCESS;
      *piece = 0;
      continue;
    }
    CUresult result = alloc_memory(piece, next(&random) % most_bytes + 1);
    if (result == CUDA_SUCCESS) work->granted++;
    if (result == CUDA_ERROR_OUT_OF_MEMORY) work->refused++;
    work->failed |= result != CUDA_SUCCESS && result != CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_SUCCESS) *piece = 0;
  }
  for (int i = 0; i < PIECES; i++) {
    if (pieces[i] != 0) work->failed |= free_memory(pieces[i]) != CUDA_SUCCESS;
  }
  return NULL;
}

static void *find(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) exit(2);
  return found;
}

int main(int count, char **arguments) {
  if (count < 4) return 2;
  int threads = count > 4 ? atoi(arguments[4]) : 1;
  struct work work[MOST_THREADS] = {{0}};
  pthread_t handles[MOST_THREADS];
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == NULL || threads > MOST_THREADS) return 2;
  init_fn *init = (init_fn *)find(library, "cuInit");
  cuDevicePrimaryCtxRetain_fn *retain = (cuDevicePrimaryCtxRetain_fn *)find(library, "cuDevicePrimaryCtxRetain");
  set_context = (set_fn *)find(library, "cuCtxSetCurrent");
  alloc_memory = (alloc_fn *)find(library, "cuMemAlloc_v2");
  free_memory = (free_fn *)find(library, "cuMemFree_v2");
  operations = strtoull(arguments[2], NULL, 10);
  most_bytes = strtoull(arguments[3], NULL, 10);
  if (init(0) != CUDA_SUCCESS || retain(&context, 0) != CUDA_SUCCESS) return 3;
  printf("ready\n");
  fflush(stdout);
  uint64_t granted = 0, refused = 0;
  int failed = 0;
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
