/* A CUDA client that does what it is told, one command a line on standard input, one answer a line on standard output.
 *
 * usage: client ROUTE.  The route says how it comes by the driver's functions:
 *   linked    bound by the linker (only in the program that is compiled with LINKED)
 *   dlsym     dlopen and dlsym on the handle        deepbind  the same, RTLD_DEEPBIND
 *   default   dlopen RTLD_GLOBAL, then dlsym(RTLD_DEFAULT)
 *   next      dlopen RTLD_GLOBAL, then dlsym(RTLD_NEXT)
 *   address   the four-argument cuGetProcAddress    address_v2  the five-argument one
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hooks.h"

enum { MOST_PIECES = 4096, MISSING = -1, LOW_DESCRIPTORS = 100 };
enum { PER_THREAD_FLAG = 2, NEWEST = 13000 };

struct piece {
  char kind[16];
  uint64_t key;
};

extern char **environ;

static const char *route;
static void *cuda, *nvml;
static struct piece pieces[MOST_PIECES];
static int piece_count;

static guard_function *as_function(void *address) {
  guard_function *function;
  memcpy(&function, &address, sizeof function);
  return function;
}

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

#ifdef LINKED
static guard_function *linked(const char *name) {
#define X(library, symbol, base, since, twin) \
  if (is(name, #symbol)) return (guard_function *)symbol;
  GUARD_HOOKS(X)
#undef X
  return as_function(dlsym(strncmp(name, "nvml", 4) == 0 ? nvml : cuda, name));
}
#endif

/* The name without its ABI, and with the version and flags that ask for this ABI. */
static void asked(const char *name, char base[64], int *version, uint64_t *flags) {
  *version = NEWEST;
  *flags = strstr(name, "_ptsz") != NULL ? PER_THREAD_FLAG : 0;
#define X(library, symbol, of, since, twin) \
  if (is(name, #symbol)) *version = since;
  GUARD_HOOKS(X)
#undef X
  strncpy(base, name, 63);
  base[63] = '\0';
  char *suffix = strrchr(base, '_');
  if (suffix != NULL) *suffix = '\0';
}

typedef CUresult address_fn(const char *, void **, int, uint64_t);
typedef CUresult address_v2_fn(const char *, void **, int, uint64_t, int *);

static guard_function *by_address(const char *name) {
  char base[64];
  int version, status = -1;
  uint64_t flags;
  void *found = NULL;
  asked(name, base, &version, &flags);
  if (is(route, "address")) {
    address_fn *ask = (address_fn *)as_function(dlsym(cuda, "cuGetProcAddress"));
    return ask(base, &found, version, flags) == 0 ? as_function(found) : NULL;
  }
  address_v2_fn *ask = (address_v2_fn *)as_function(dlsym(cuda, "cuGetProcAddress_v2"));
  return ask(base, &found, version, flags, &status) == 0 && status == 0 ? as_function(found) : NULL;
}

static guard_function *find(const char *name) {
  bool is_nvml = strncmp(name, "nvml", 4) == 0;
#ifdef LINKED
  if (is(route, "linked")) return linked(name);
#endif
  if (is(route, "default")) return as_function(dlsym(RTLD_DEFAULT, name));
  if (is(route, "next")) return as_function(dlsym(RTLD_NEXT, name));
  if (!is_nvml && strncmp(route, "address", 7) == 0) return by_address(name);
  return as_function(dlsym(is_nvml ? nvml : cuda, name));
}

/* Calls a function by name; MISSING when the route does not lead to it. */
#define CALL(name, ...)                                               \
  ({                                                                  \
    __typeof__(&(name)) function_ = (__typeof__(&(name)))find(#name); \
    function_ != NULL ? function_(__VA_ARGS__) : MISSING;             \
  })
#define PLAIN(name, type, ...)                            \
  ({                                                      \
    type *function_ = (type *)find(#name);                \
    function_ != NULL ? function_(__VA_ARGS__) : MISSING; \
  })

static bool open_libraries(void) {
  int flags = RTLD_NOW | (is(route, "default") || is(route, "next") ? RTLD_GLOBAL : RTLD_LOCAL);
  if (is(route, "deepbind")) flags |= RTLD_DEEPBIND;
  cuda = dlopen("libcuda.so.1", flags);
  nvml = dlopen("libnvidia-ml.so.1", flags);
  return cuda != NULL;
}

static int allocate(const char *kind, uint64_t bytes, uint64_t *key) {
  CUdeviceptr pointer = 0;
  CUdeviceptr_v1 small = 0;
  int result = MISSING;
  size_t pitch = 0;
  if (is(kind, "sync")) result = CALL(cuMemAlloc_v2, &pointer, bytes);
  if (is(kind, "managed")) result = CALL(cuMemAllocManaged, &pointer, bytes, 1);
  if (is(kind, "pitched")) result = CALL(cuMemAllocPitch_v2, &pointer, &pitch, bytes, 1, 4);
  if (is(kind, "async")) result = CALL(cuMemAllocAsync, &pointer, bytes, NULL);
  if (is(kind, "async_ptsz")) result = CALL(cuMemAllocAsync_ptsz, &pointer, bytes, NULL);
  if (is(kind, "pool") || is(kind, "pool_ptsz")) {
    CUmemoryPool pool = NULL;
    (void)PLAIN(cuDeviceGetDefaultMemPool, cuDeviceGetDefaultMemPool_fn, &pool, 0);
    result = is(kind, "pool") ? CALL(cuMemAllocFromPoolAsync, &pointer, bytes, pool, NULL)
                              : CALL(cuMemAllocFromPoolAsync_ptsz, &pointer, bytes, pool, NULL);
  }
  if (is(kind, "old")) {
    result = CALL(cuMemAlloc, &small, (unsigned int)bytes);
    pointer = small;
  }
  if (is(kind, "create")) {
    unsigned char prop[64] = {1, 0, 0, 0, 0, 0, 0, 0, CU_MEM_LOCATION_TYPE_DEVICE};
    result = CALL(cuMemCreate, &pointer, bytes, (const CUmemAllocationProp *)(const void *)prop, 0);
  }
  if (is(kind, "array")) {
    CUDA_ARRAY_DESCRIPTOR descriptor = {.Width = bytes, .Format = CU_AD_FORMAT_UNSIGNED_INT8, .NumChannels = 1};
    CUarray array = NULL;
    result = CALL(cuArrayCreate_v2, &array, &descriptor);
    pointer = (uintptr_t)array;
  }
  *key = pointer;
  return result;
}

static int release(const char *kind, uint64_t key) {
  if (is(kind, "async") || is(kind, "pool")) return CALL(cuMemFreeAsync, key, NULL);
  if (is(kind, "async_ptsz") || is(kind, "pool_ptsz")) return CALL(cuMemFreeAsync_ptsz, key, NULL);
  if (is(kind, "old")) return CALL(cuMemFree, (CUdeviceptr_v1)key);
  if (is(kind, "create")) return CALL(cuMemRelease, key);
  if (is(kind, "array")) return CALL(cuArrayDestroy, (CUarray)(uintptr_t)key);
  return CALL(cuMemFree_v2, key);
}

static int launch(const char *kind) {
  CUfunction f = (CUfunction)(uintptr_t)8;
  CUlaunchConfig config = {.gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1};
  CUDA_LAUNCH_PARAMS list[1] = {{.function = f, .gridDimX = 1, .blockDimX = 1}};
  if (is(kind, "kernel")) return CALL(cuLaunchKernel, f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
  if (is(kind, "kernel_ptsz")) return CALL(cuLaunchKernel_ptsz, f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
  if (is(kind, "ex")) return CALL(cuLaunchKernelEx, &config, f, NULL, NULL);
  if (is(kind, "ex_ptsz")) return CALL(cuLaunchKernelEx_ptsz, &config, f, NULL, NULL);
  if (is(kind, "cooperative")) return CALL(cuLaunchCooperativeKernel, f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL);
  if (is(kind, "cooperative_ptsz")) return CALL(cuLaunchCooperativeKernel_ptsz, f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL);
  if (is(kind, "multi")) return CALL(cuLaunchCooperativeKernelMultiDevice, list, 1, 0);
  if (is(kind, "old")) return CALL(cuLaunch, f);
  if (is(kind, "grid")) return CALL(cuLaunchGrid, f, 1, 1);
  if (is(kind, "grid_async")) return CALL(cuLaunchGridAsync, f, 1, 1, NULL);
  if (is(kind, "graph")) return CALL(cuGraphLaunch, (CUgraphExec)f, NULL);
  if (is(kind, "graph_ptsz")) return CALL(cuGraphLaunch_ptsz, (CUgraphExec)f, NULL);
  return MISSING;
}

static void launch_many(const char *kind, uint64_t count) {
  int result = 0;
  for (uint64_t i = 0; i < count && result == 0; i++) result = launch(kind);
  printf("%d\n", result);
}

typedef long long held_fn(int device); /* of the stub driver, as is the next */
typedef long long launches_fn(void);

static void start(int device) {
  typedef CUresult init_fn(unsigned int);
  typedef CUresult set_fn(CUcontext);
  CUcontext context = NULL;
  int result = PLAIN(cuInit, init_fn, 0);
  if (result == 0) result = CALL(cuDevicePrimaryCtxRetain, &context, device);
  if (result == 0) result = PLAIN(cuCtxSetCurrent, set_fn, context);
  printf("%d\n", result);
}

static void nvml_memory(unsigned int index) {
  typedef nvmlReturn_t init_fn(void);
  typedef nvmlReturn_t handle_fn(unsigned int, nvmlDevice_t *);
  nvmlDevice_t device = NULL;
  nvmlMemory_t one = {0};
  nvmlMemory_v2_t two = {.version = (unsigned int)sizeof two | 2u << 24};
  int result = PLAIN(nvmlInit_v2, init_fn, );
  if (result == 0) result = PLAIN(nvmlDeviceGetHandleByIndex_v2, handle_fn, index, &device);
  if (result == 0) result = CALL(nvmlDeviceGetMemoryInfo, device, &one);
  if (result == 0) result = CALL(nvmlDeviceGetMemoryInfo_v2, device, &two);
  printf("%d %llu %llu %llu %llu %llu %llu %llu\n", result, one.total, one.free, one.used, two.total, two.free,
         two.used, two.reserved);
}

/* The compute processes by the newest call, when its elders and the call for one entry too few agree with it. */
static void nvml_processes(unsigned int index) {
  enum { ROOM = 64 };
  typedef nvmlReturn_t init_fn(void);
  typedef nvmlReturn_t handle_fn(unsigned int, nvmlDevice_t *);
  nvmlDevice_t device = NULL;
  nvmlProcessInfo_v1_t one[ROOM];
  nvmlProcessInfo_v2_t two[ROOM];
  nvmlProcessInfo_t three[ROOM];
  unsigned int counts[3] = {ROOM, ROOM, ROOM}, few = 0, graphics = ROOM;
  int result = PLAIN(nvmlInit_v2, init_fn, );
  if (result == 0) result = PLAIN(nvmlDeviceGetHandleByIndex_v2, handle_fn, index, &device);
  if (result == 0) result = CALL(nvmlDeviceGetComputeRunningProcesses, device, &counts[0], one);
  if (result == 0) result = CALL(nvmlDeviceGetComputeRunningProcesses_v2, device, &counts[1], two);
  if (result == 0) result = CALL(nvmlDeviceGetComputeRunningProcesses_v3, device, &counts[2], three);
  if (result == 0) result = CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, device, &graphics, three + counts[2]);
  int asked = CALL(nvmlDeviceGetComputeRunningProcesses_v3, device, &few, NULL);
  bool agree = counts[0] == counts[2] && counts[1] == counts[2] && few == counts[2] && graphics == 0 &&
               asked == (few > 0 ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
  for (unsigned int i = 0; i < counts[2] && agree; i++) {
    agree = one[i].pid == three[i].pid && two[i].pid == three[i].pid &&
            one[i].usedGpuMemory == three[i].usedGpuMemory && two[i].usedGpuMemory == three[i].usedGpuMemory;
  }
  printf("%d", agree ? result : -2);
  for (unsigned int i = 0; i < counts[2] && agree; i++) printf(" %u %llu", three[i].pid, three[i].usedGpuMemory);
  printf("\n");
}

static bool maps_usage_file(void) {
  char line[1024];
  bool found = false;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) found |= strstr(line, "/usage") != NULL;
  if (maps != NULL) (void)fclose(maps);
  return found;
}

/* What belongs to the process and to nobody else in it: signals, mask, environment, directory, the low descriptors. */
static void show_self(void) {
  char line[1024];
  unsigned long environment = 0, low = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status != NULL && fgets(line, sizeof line, status) != NULL) {
    bool is_queue = strncmp(line, "SigQ", 4) == 0; /* counts those of all the user's processes */
    bool ours = (strncmp(line, "Sig", 3) == 0 && !is_queue) || strncmp(line, "Umask", 5) == 0 ||
                strncmp(line, "Threads", 7) == 0 || strncmp(line, "Groups", 6) == 0;
    if (ours) printf("%.*s;", (int)strcspn(line, "\n"), line);
  }
  if (status != NULL) (void)fclose(status);
  for (char **each = environ; *each != NULL; each++) {
    for (const char *at = *each; *at != '\0'; at++) environment = environment * 31 + (unsigned char)*at;
  }
  for (int fd = 0; fd < LOW_DESCRIPTORS; fd++) {
    struct stat st;
    if (fstat(fd, &st) == 0) low = low * 31 + (unsigned long)st.st_ino + (unsigned long)fd;
  }
  printf("%lx;%lx;%s\n", environment, low, getcwd(line, sizeof line));
}

static void take_piece(const char *kind, uint64_t bytes) {
  uint64_t key;
  errno = 12345;
  int result = allocate(kind, bytes, &key);
  bool kept = errno == 12345;
  if (result == 0 && piece_count < MOST_PIECES) {
    strncpy(pieces[piece_count].kind, kind, sizeof pieces[0].kind - 1);
    pieces[piece_count++].key = key;
  }
  printf("%d %d %s\n", result, piece_count - 1, kept ? "errno-kept" : "errno-changed");
}

static void view(void) {
  size_t free_bytes = 0, total = 0, of_device = 0;
  int result = CALL(cuMemGetInfo_v2, &free_bytes, &total);
  if (result == 0) result = CALL(cuDeviceTotalMem_v2, &of_device, 0);
  printf("%d %zu %zu %zu\n", result, free_bytes, total, of_device);
}

static void reset(const char *how) {
  int result = is(how, "reset") ? CALL(cuDevicePrimaryCtxReset_v2, 0) : CALL(cuDevicePrimaryCtxRelease_v2, 0);
  printf("%d\n", result);
}

/* The child answers until it is told to quit, then the parent goes on. */
static void split(void) {
  pid_t child = fork();
  if (child > 0) {
    int status;
    (void)waitpid(child, &status, 0);
  } else {
    piece_count = 0;
    printf("%d\n", child);
  }
}

static bool obey(char *line) {
  char word[32] = "", argument[32] = "";
  unsigned long long number = 0;
  (void)sscanf(line, "%31s %31s %llu", word, argument, &number);
  unsigned long long first = strtoull(argument, NULL, 0);
  if (is(word, "quit")) return false;
  if (is(word, "fork")) split();
  if (is(word, "open")) printf("%d\n", open_libraries());
  if (is(word, "init")) start((int)first);
  if (is(word, "alloc")) take_piece(argument, number);
  if (is(word, "free") && first < MOST_PIECES) printf("%d\n", release(pieces[first].kind, pieces[first].key));
  if (is(word, "free-raw")) printf("%d\n", CALL(cuMemFree_v2, first));
  if (is(word, "view")) view();
  if (is(word, "null-view")) printf("%d\n", CALL(cuMemGetInfo_v2, NULL, NULL));
  if (is(word, "nvml")) nvml_memory((unsigned int)first);
  if (is(word, "processes")) nvml_processes((unsigned int)first);
  if (is(word, "reset") || is(word, "release")) reset(word);
  if (is(word, "map")) printf("%d\n", CALL(cuMemMap, 0x100000 + number, 1 << 20, 0, pieces[first].key, 0));
  if (is(word, "unmap")) printf("%d\n", CALL(cuMemUnmap, 0x100000 + first, number));
  if (is(word, "maps")) printf("%d\n", maps_usage_file());
  if (is(word, "has")) printf("%d\n", find(argument) != NULL);
  if (is(word, "held")) printf("%lld\n", (long long)PLAIN(stubHeld, held_fn, (int)first));
  if (is(word, "launch")) launch_many(argument, number);
  if (is(word, "launches")) printf("%lld\n", PLAIN(stubLaunches, launches_fn, ));
  if (is(word, "capture")) printf("%d\n", CALL(cuStreamBeginCapture_v2, NULL, 0));
  if (is(word, "self")) show_self();
  if (is(word, "die")) (void)raise(SIGKILL);
  if (is(word, "close-all")) {
    for (int fd = 3; fd < 1024; fd++) (void)close(fd);
    printf("0\n");
  }
  return true;
}

int main(int count, char **arguments) {
  char line[256];
  route = count > 1 ? arguments[1] : "dlsym";
  setvbuf(stdout, NULL, _IOLBF, 0);
  setvbuf(stdin, NULL, _IONBF, 0); /* a forked child reads only what is meant for it */
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (!obey(line)) break;
  }
  return 0;
}
