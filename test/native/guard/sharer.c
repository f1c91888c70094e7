/* A CUDA client that shares one piece of memory with others of its kind, one command a line, one answer a line.
 *
 *   open, init DEVICE, alloc KIND BYTES, view, quit   as client.c has them; the pieces of alloc are never freed
 *   take ROUTE BYTES      the piece to be shared; its CUresult
 *   offer ROUTE           what hold needs to be told, in one word
 *   hold ROUTE BYTES WORD imports; its CUresult
 *   leave ROUTE           lets go of it; its CUresult
 *   context               another context begins and ends; its CUresult
 *   reset                 the primary context ends; its CUresult
 * ROUTE is ipc, vmm (mapped, the handle released), or external (mapped as a buffer, the object destroyed).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cuda_api.h"

CUresult cuInit(unsigned int flags);

static void *library;
static CUdeviceptr held;

static const CUmemAllocationProp PHYSICAL = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                             .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                             .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
static CUmemGenericAllocationHandle physical;

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
  TRY(CALL(cuMemAddressReserve, &held, bytes, 0, 0, 0));
  return CALL(cuMemMap, held, bytes, 0, handle, 0);
}

static int take(const char *route, size_t bytes) {
  if (is(route, "ipc")) return CALL(cuMemAlloc_v2, &held, bytes);
  return CALL(cuMemCreate, &physical, bytes, &PHYSICAL, 0);
}

static void offer(const char *route) {
  CUipcMemHandle handle;
  int fd = -1;
  if (is(route, "ipc")) {
    (void)CALL(cuIpcGetMemHandle, &handle, held);
    for (size_t i = 0; i < sizeof handle; i++) printf("%02x", (unsigned char)handle.reserved[i]);
    printf("\n");
  } else {
    (void)CALL(cuMemExportToShareableHandle, &fd, physical, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    printf("/proc/%d/fd/%d\n", (int)getpid(), fd);
  }
}

static int hold_physical(int fd, size_t bytes) {
  CUmemGenericAllocationHandle handle;
  TRY(CALL(cuMemImportFromShareableHandle, &handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  int result = map(handle, bytes);
  TRY(CALL(cuMemRelease, handle));
  return result;
}

static int hold_external(int fd, size_t bytes) {
  CUexternalMemory memory;
  CUDA_EXTERNAL_MEMORY_HANDLE_DESC object = {.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD, .size = bytes};
  CUDA_EXTERNAL_MEMORY_BUFFER_DESC whole = {.size = bytes};
  object.handle.fd = fd;
  TRY(CALL(cuImportExternalMemory, &memory, &object));
  TRY(CALL(cuExternalMemoryGetMappedBuffer, &held, memory, &whole));
  return CALL(cuDestroyExternalMemory, memory);
}

static int hold(const char *route, size_t bytes, const char *word) {
  CUipcMemHandle handle;
  if (is(route, "ipc")) {
    for (size_t i = 0; i < sizeof handle; i++) {
      unsigned int byte;
      if (sscanf(word + 2 * i, "%2x", &byte) != 1) return -1;
      handle.reserved[i] = (char)byte;
    }
    return CALL(cuIpcOpenMemHandle_v2, &held, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  }
  int fd = open(word, O_RDWR | O_CLOEXEC);
  return is(route, "vmm") ? hold_physical(fd, bytes) : hold_external(fd, bytes);
}

static int leave(const char *route, size_t bytes) {
  if (is(route, "ipc")) return CALL(cuIpcCloseMemHandle, held);
  return is(route, "vmm") ? CALL(cuMemUnmap, held, bytes) : CALL(cuMemFree_v2, held);
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
  CUdeviceptr piece;
  (void)sscanf(line, "%15s %15s %zu %159s", word, route, &bytes, last);
  if (is(word, "open")) printf("%d\n", (library = dlopen("libcuda.so.1", RTLD_NOW)) != NULL);
  if (is(word, "init")) printf("%d\n", start(0));
  if (is(word, "alloc")) printf("%d\n", CALL(cuMemAlloc_v2, &piece, bytes));
  if (is(word, "take")) printf("%d\n", take(route, bytes));
  if (is(word, "offer")) offer(route);
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
