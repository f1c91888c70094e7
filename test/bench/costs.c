/* Times single calls of the driver API as a program meets them: looked up by dlsym in the library it opened.
 *
 *   costs serve             reads lines `CALL SAMPLES REPEATS` and answers each with SAMPLES 32-bit numbers: the nanoseconds
 *                           that REPEATS calls took (1: each call alone, with the cost of the clock; `clock` tells that)
 *   costs repeat CALL TIMES makes that many calls and ends, for those who count instructions from outside
 *   costs start             initialises CUDA and ends: the least of a process that uses it
 * Ends with status 2 on bad words and 3 when the driver refuses something. */
#include <dlfcn.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hooks.h"

enum { BAD_WORDS = 2, REFUSED = 3, MOST_SAMPLES = 1 << 16, ALLOCATION_BYTES = 4096 };

typedef CUresult init_fn(unsigned int);
typedef CUresult set_fn(CUcontext);
typedef CUresult load_fn(CUmodule *, const void *);
typedef CUresult function_fn(CUfunction *, CUmodule, const char *);
typedef CUresult alloc_fn(CUdeviceptr *, size_t);
typedef CUresult free_fn(CUdeviceptr);
typedef CUresult view_fn(size_t *, size_t *);
typedef CUresult launch_fn(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                           unsigned int, unsigned int, CUstream, void **, void **);

static const char IMAGE[] = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry nothing() { ret; }\n";

extern char **environ;

static alloc_fn *alloc_memory;
static free_fn *free_memory;
static view_fn *memory_view;
static launch_fn *launch_kernel;
static CUfunction kernel;

static void *find(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) exit(REFUSED);
  return found;
}

static void need(CUresult result) {
  if (result != CUDA_SUCCESS) exit(REFUSED);
}

static void *open_driver(void) {
  void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
  if (cuda == NULL) exit(REFUSED);
  need(((init_fn *)find(cuda, "cuInit"))(0));
  return cuda;
}

/* A context, a kernel that does nothing, and the functions that are timed. */
static void use_device(void) {
  void *cuda = open_driver();
  CUcontext context;
  CUmodule module;
  need(((__typeof__(&cuDevicePrimaryCtxRetain))find(cuda, "cuDevicePrimaryCtxRetain"))(&context, 0));
  need(((set_fn *)find(cuda, "cuCtxSetCurrent"))(context));
  need(((load_fn *)find(cuda, "cuModuleLoadData"))(&module, IMAGE));
  need(((function_fn *)find(cuda, "cuModuleGetFunction"))(&kernel, module, "nothing"));
  alloc_memory = (alloc_fn *)find(cuda, "cuMemAlloc_v2");
  free_memory = (free_fn *)find(cuda, "cuMemFree_v2");
  memory_view = (view_fn *)find(cuda, "cuMemGetInfo_v2");
  launch_kernel = (launch_fn *)find(cuda, "cuLaunchKernel");
}

static void call_nothing(void) {}

static void call_launch(void) { need(launch_kernel(kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL)); }

static void call_pair(void) {
  CUdeviceptr pointer;
  need(alloc_memory(&pointer, ALLOCATION_BYTES));
  need(free_memory(pointer));
}

static void call_view(void) {
  size_t free_bytes, total;
  need(memory_view(&free_bytes, &total));
}

static void call_dlsym(void) { (void)find(RTLD_DEFAULT, "getppid"); }

static void run_program(const char *path, const char *word) {
  char *arguments[] = {(char *)path, (char *)word, NULL};
  pid_t child;
  int status;
  if (posix_spawn(&child, path, NULL, NULL, arguments, environ) != 0) exit(REFUSED);
  if (waitpid(child, &status, 0) != child || status != 0) exit(REFUSED);
}

static void call_true(void) { run_program("/bin/true", NULL); }

static void call_start(void) { run_program("/proc/self/exe", "start"); }

typedef void call_fn(void);

static call_fn *call_named(const char *name) {
  static const struct {
    const char *name;
    call_fn *call;
  } CALLS[] = {
      {"clock", call_nothing}, {"launch", call_launch}, {"pair", call_pair},   {"view", call_view},
      {"dlsym", call_dlsym},   {"true", call_true},     {"start", call_start},
  };
  for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++) {
    if (strcmp(CALLS[i].name, name) == 0) return CALLS[i].call;
  }
  exit(BAD_WORDS);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void answer(call_fn *call, size_t samples, unsigned int repeats) {
  static uint32_t taken[MOST_SAMPLES];
  for (size_t i = 0; i < samples; i++) {
    uint64_t begun = now();
    for (unsigned int n = 0; n < repeats; n++) call();
    taken[i] = (uint32_t)(now() - begun);
  }
  if (fwrite(taken, sizeof *taken, samples, stdout) != samples || fflush(stdout) != 0) exit(REFUSED);
}

static int serve(void) {
  char line[64], name[16];
  unsigned int samples, repeats;
  use_device();
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (sscanf(line, "%15s %u %u", name, &samples, &repeats) != 3 || samples > MOST_SAMPLES) return BAD_WORDS;
    answer(call_named(name), samples, repeats);
  }
  return 0;
}

int main(int count, char **words) {
  if (count == 2 && strcmp(words[1], "serve") == 0) return serve();
  if (count == 2 && strcmp(words[1], "start") == 0) return open_driver() == NULL;
  if (count != 4 || strcmp(words[1], "repeat") != 0) return BAD_WORDS;
  call_fn *call = call_named(words[2]);
  use_device();
  for (unsigned long left = strtoul(words[3], NULL, 10); left > 0; left--) call();
  return 0;
}
