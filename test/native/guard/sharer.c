/* A CUDA client that shares pieces of memory with others of its kind, one command a line, one answer a line.
 *
 *   open, init DEVICE, alloc KIND BYTES, view, quit   as client.c has them; the pieces of alloc are never freed
 *   piece N               the commands that follow are about piece N; 0 at first
 *   take ROUTE BYTES      the piece to be shared; its CUresult
 *   offer ROUTE           what hold needs to be told, in one word
 *   give ROUTE            the piece that was taken is freed; its CUresult
 *   hold ROUTE BYTES WORD imports; its CUresult
 *   leave ROUTE BYTES     lets go of what was imported; its CUresult
 *   context               another context begins and ends; its CUresult
 *   reset                 the primary context ends; its CUresult
 * ROUTE is ipc, vmm (mapped, the handle released), handle (not mapped), external (mapped as a buffer, the object destroyed) or pool.
 * Descriptors are passed on as they are, not opened anew: with NVIDIA's driver they are all the same file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cuda_api.h"

enum { PIECES = 16, PIDFD_OPEN = 434, PIDFD_GETFD = 438 };

CUresult cuInit(unsigned int flags);

struct piece {
  CUdeviceptr held;
  CUmemGenericAllocationHandle physical;
  CUmemoryPool pool;
};

static void *library;
static struct piece pieces[PIECES], *piece = pieces;

static const CUmemAllocationProp PHYSICAL = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                             .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                             .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
static const CUmemPoolProps POOL = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                    .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                    .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};

#define CALL(name, ...) ((int)((__typeof__(&(name)))(uintptr_t)dlsym(library, #name))(__VA_ARGS__))
#define TRY(call)                     \
  do {                                \
    int result_ = (call);             \
    if (result_ != 0) return result_; \
  } while (0)

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static int start(int device) {
  CUcontext context;
  TRY(CALL(cuInit, 0));
  TRY(CALL(cuDevicePrimaryCtxRetain, &context, device));
  return CALL(cuCtxSetCurrent, context);
}

static int map(CUmemGenericAllocationHandle handle, size_t bytes) {
  TRY(CALL(cuMemAddressReserve, &piece->held, bytes, 0, 0, 0));
  return CALL(cuMemMap, piece->held, bytes, 0, handle, 0);
}

/* ---- the exporter ---- */

static int take(const char *route, size_t bytes) {
  *piece = (struct piece){0};
  if (is(route, "ipc")) return CALL(cuMemAlloc_v2, &piece->held, bytes);
  if (!is(route, "pool")) return CALL(cuMemCreate, &piece->physical, bytes, &PHYSICAL, 0);
  TRY(CALL(cuMemPoolCreate, &piece->pool, &POOL));
  return CALL(cuMemAllocFromPoolAsync, &piece->held, bytes, piece->pool, NULL);
}

static int give(const char *route) {
  if (is(route, "ipc")) return CALL(cuMemFree_v2, piece->held);
  if (!is(route, "pool")) return CALL(cuMemRelease, piece->physical);
  TRY(CALL(cuMemFreeAsync, piece->held, NULL));
  return CALL(cuMemPoolDestroy, piece->pool);
}

static void print_bytes(const void *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) printf("%02x", ((const unsigned char *)bytes)[i]);
}

static void offer(const char *route) {
  CUipcMemHandle handle;
  CUmemPoolPtrExportData data;
  int fd = -1;
  if (is(route, "ipc")) {
    (void)CALL(cuIpcGetMemHandle, &handle, piece->held);
    print_bytes(&handle, sizeof handle);
  } else if (is(route, "pool")) {
    (void)CALL(cuMemPoolExportToShareableHandle, &fd, piece->pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    (void)CALL(cuMemPoolExportPointer, &data, piece->held);
    printf("%d:%d:", (int)getpid(), fd);
    print_bytes(&data, sizeof data);
  } else {
    (void)CALL(cuMemExportToShareableHandle, &fd, piece->physical, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    printf("%d:%d", (int)getpid(), fd);
  }
  printf("\n");
}

/* ---- the importer ---- */

static int descriptor(const char *word) {
  int pid, fd;
  if (sscanf(word, "%d:%d", &pid, &fd) != 2) return -1;
  int process = (int)syscall(PIDFD_OPEN, pid, 0);
  int got = (int)syscall(PIDFD_GETFD, process, fd, 0);
  (void)close(process);
  return got;
}

static bool read_bytes(const char *word, void *bytes, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (sscanf(word + 2 * i, "%2hhx", &((unsigned char *)bytes)[i]) != 1) return false;
  return true;
}

static int hold_physical(int fd, size_t bytes, bool mapped) {
  TRY(CALL(cuMemImportFromShareableHandle, &piece->physical, (void *)(intptr_t)fd,
           CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  (void)close(fd);
  if (!mapped) return 0;
  int result = map(piece->physical, bytes);
  TRY(CALL(cuMemRelease, piece->physical));
  return result;
}

static int hold_external(int fd, size_t bytes) {
  CUexternalMemory memory;
  CUDA_EXTERNAL_MEMORY_HANDLE_DESC object = {.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD, .size = bytes};
  CUDA_EXTERNAL_MEMORY_BUFFER_DESC whole = {.size = bytes};
  object.handle.fd = fd;
  TRY(CALL(cuImportExternalMemory, &memory, &object));
  TRY(CALL(cuExternalMemoryGetMappedBuffer, &piece->held, memory, &whole));
  return CALL(cuDestroyExternalMemory, memory);
}

static int hold_pool(int fd, const char *word) {
  CUmemPoolPtrExportData data;
  const char *last = strrchr(word, ':');
  if (last == NULL || !read_bytes(last + 1, &data, sizeof data)) return -1;
  TRY(CALL(cuMemPoolImportFromShareableHandle, &piece->pool, (void *)(intptr_t)fd,
           CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  return CALL(cuMemPoolImportPointer, &piece->held, piece->pool, &data);
}

static int hold(const char *route, size_t bytes, const char *word) {
  CUipcMemHandle handle;
  *piece = (struct piece){0};
  if (is(route, "ipc")) {
    if (!read_bytes(word, &handle, sizeof handle)) return -1;
    return CALL(cuIpcOpenMemHandle_v2, &piece->held, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  }
  int fd = descriptor(word);
  if (is(route, "pool")) return hold_pool(fd, word);
  return is(route, "external") ? hold_external(fd, bytes) : hold_physical(fd, bytes, is(route, "vmm"));
}

static int leave(const char *route, size_t bytes) {
  if (is(route, "ipc")) return CALL(cuIpcCloseMemHandle, piece->held);
  if (is(route, "handle")) return CALL(cuMemRelease, piece->physical);
  return is(route, "vmm") ? CALL(cuMemUnmap, piece->held, bytes) : CALL(cuMemFree_v2, piece->held);
}

static int context(void) {
  CUcontext made, old;
  TRY(CALL(cuCtxCreate_v2, &made, 0, 0));
  TRY(CALL(cuCtxDestroy_v2, made));
  TRY(CALL(cuDevicePrimaryCtxRetain, &old, 0));
  TRY(CALL(cuCtxSetCurrent, old));
  return CALL(cuDevicePrimaryCtxRelease_v2, 0);
}

static void view(void) {
  size_t free_bytes = 0, total = 0, of_device = 0;
  int result = CALL(cuMemGetInfo_v2, &free_bytes, &total);
  if (result == 0) result = CALL(cuDeviceTotalMem_v2, &of_device, 0);
  printf("%d %zu %zu %zu\n", result, free_bytes, total, of_device);
}

static void obey(const char *line) {
  char word[16] = "", route[16] = "", last[160] = "";
  size_t bytes = 0;
  unsigned int number;
  CUdeviceptr pointer;
  (void)sscanf(line, "%15s %15s %zu %159s", word, route, &bytes, last);
  if (sscanf(line, "piece %u", &number) == 1) printf("%d\n", (piece = &pieces[number % PIECES]) == NULL);
  if (is(word, "open")) printf("%d\n", (library = dlopen("libcuda.so.1", RTLD_NOW)) != NULL);
  if (is(word, "init")) printf("%d\n", start(0));
  if (is(word, "alloc")) printf("%d\n", CALL(cuMemAlloc_v2, &pointer, bytes));
  if (is(word, "take")) printf("%d\n", take(route, bytes));
  if (is(word, "offer")) offer(route);
  if (is(word, "give")) printf("%d\n", give(route));
  if (is(word, "hold")) printf("%d\n", hold(route, bytes, last));
  if (is(word, "leave")) printf("%d\n", leave(route, bytes));
  if (is(word, "reset")) printf("%d\n", CALL(cuDevicePrimaryCtxReset_v2, 0));
  if (is(word, "context")) printf("%d\n", context());
  if (is(word, "view")) view();
}

int main(void) {
  char line[256];
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (fgets(line, sizeof line, stdin) != NULL && strncmp(line, "quit", 4) != 0) obey(line);
  return 0;
}
