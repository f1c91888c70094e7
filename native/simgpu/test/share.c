/* Two processes that share memory in every way there is, for tests under sanitizers too.
 *
 *   share ROUTE        ipc, vmm, external or pool: the parent exports, the child imports, looks and writes; who goes
 *                      first, who is killed, and what the card holds in between
 *   share hand-over    the child opens what the parent has, prints both pids, has the parent killed at a line of input,
 *                      and lets go at another
 * Exit status 0 means that every answer was the expected one.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define SIZE (4 * MIB)
#define FROM_PARENT "written by the parent"
#define FROM_CHILD "written by the child"

#define EXPECT(call, wanted)                                                                           \
  do {                                                                                                 \
    int got_ = (int)(call);                                                                            \
    if (got_ != (int)(wanted)) {                                                                       \
      fprintf(stderr, "%s:%d: %s: got %d, want %d\n", __FILE__, __LINE__, #call, got_, (int)(wanted)); \
      exit(1);                                                                                         \
    }                                                                                                  \
  } while (0)
#define OK(call) EXPECT(call, CUDA_SUCCESS)
#define CHECK(condition) EXPECT(!(condition), 0)

static int channel;    /* to the other process */
static pid_t exporter; /* the parent, as the child knows it */

static const CUmemAllocationProp PHYSICAL = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                             .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                             .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};

/* ---- talking ----------------------------------------------------------------------------------------------------- */

static void tell(const void *data, size_t size) { CHECK(write(channel, data, size) == (ssize_t)size); }

static void hear(void *data, size_t size) { CHECK(read(channel, data, size) == (ssize_t)size); }

static void go(void) { tell("g", 1); }

static void await(void) {
  char byte;
  hear(&byte, 1);
}

static void send_descriptor(int fd) {
  char byte = 'f';
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec data = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  CHECK(sendmsg(channel, &message, 0) == 1);
  close(fd);
}

static int receive_descriptor(void) {
  char byte;
  int fd;
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec data = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  CHECK(recvmsg(channel, &message, MSG_CMSG_CLOEXEC) == 1);
  CHECK(CMSG_FIRSTHDR(&message) != NULL);
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

/* ---- the card ---------------------------------------------------------------------------------------------------- */

static void start(void) {
  CUcontext context;
  OK(cuInit(0));
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  OK(cuCtxSetCurrent(context));
}

static size_t used(void) {
  size_t free_bytes;
  size_t total;
  OK(cuMemGetInfo_v2(&free_bytes, &total));
  return total - free_bytes;
}

static void put(CUdeviceptr at, const char *text) { OK(cuMemcpyHtoD_v2(at, text, strlen(text) + 1)); }

static void see(CUdeviceptr at, const char *text) {
  char back[64] = "";
  OK(cuMemcpyDtoH_v2(back, at, strlen(text) + 1));
  CHECK(strcmp(back, text) == 0);
}

static CUdeviceptr map(CUmemGenericAllocationHandle handle) {
  CUdeviceptr at;
  const CUmemAccessDesc access = {.location = PHYSICAL.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  OK(cuMemAddressReserve(&at, SIZE, 0, 0, 0));
  OK(cuMemMap(at, SIZE, 0, handle, 0));
  OK(cuMemSetAccess(at, SIZE, &access, 1));
  return at;
}

static void unmap(CUdeviceptr at) {
  OK(cuMemUnmap(at, SIZE));
  OK(cuMemAddressFree(at, SIZE));
}

/* ---- cuIpc*: the exporter frees first ---------------------------------------------------------------------------- */

static void ipc_parent(void) {
  CUdeviceptr p;
  CUdeviceptr other;
  CUipcMemHandle handle;
  OK(cuMemAlloc_v2(&p, SIZE));
  put(p + 100, FROM_PARENT);
  EXPECT(cuIpcGetMemHandle(&handle, 4096), CUDA_ERROR_INVALID_VALUE);
  OK(cuIpcGetMemHandle(&handle, p + 100));
  EXPECT(cuIpcOpenMemHandle_v2(&other, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS), CUDA_ERROR_INVALID_CONTEXT);
  CHECK(used() == SIZE);
  see(p + 100, FROM_PARENT);
  tell(&handle, sizeof handle);
  await();
  see(p + 200, FROM_CHILD);
  CHECK(used() == SIZE);
  OK(cuMemFree_v2(p));
  CHECK(used() == SIZE); /* the child has it open */
  go();
  await();
  CHECK(used() == 0);
  OK(cuMemAlloc_v2(&p, SIZE));
  put(p + 100, "unseen by the child");
  OK(cuMemFree_v2(p));
}

static void ipc_child(void) {
  CUdeviceptr p;
  CUdeviceptr again;
  CUipcMemHandle handle;
  hear(&handle, sizeof handle);
  OK(cuIpcOpenMemHandle_v2(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  OK(cuIpcOpenMemHandle_v2(&again, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  CHECK(p == again && used() == SIZE);
  see(p + 100, FROM_PARENT);
  put(p + 200, FROM_CHILD);
  EXPECT(cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE);
  OK(cuIpcCloseMemHandle(p));
  go();
  await();
  see(p + 100, FROM_PARENT);
  OK(cuIpcCloseMemHandle(p));
  EXPECT(cuIpcCloseMemHandle(p), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuIpcOpenMemHandle_v2(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS), CUDA_ERROR_INVALID_VALUE);
  go();
}

/* ---- physical memory: it lives as long as the last of both ------------------------------------------------------- */

static void vmm_parent(void) {
  CUmemGenericAllocationHandle handle;
  CUmemGenericAllocationHandle own;
  int fd;
  CUmemAllocationProp secret = PHYSICAL;
  secret.requestedHandleTypes = CU_MEM_HANDLE_TYPE_NONE;
  OK(cuMemCreate(&handle, SIZE, &secret, 0));
  EXPECT(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
         CUDA_ERROR_INVALID_VALUE);
  OK(cuMemRelease(handle));
  OK(cuMemCreate(&handle, SIZE, &PHYSICAL, 0));
  OK(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  CUdeviceptr at = map(handle);
  put(at, FROM_PARENT);
  OK(cuMemImportFromShareableHandle(&own, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  CHECK(used() == SIZE);
  OK(cuMemRelease(own));
  send_descriptor(fd);
  await();
  see(at + 100, FROM_CHILD);
  unmap(at);
  OK(cuMemRelease(handle));
  CHECK(used() == SIZE); /* the child's now */
  go();
  await();
  CHECK(used() == 0);
}

static void vmm_child(void) {
  CUmemGenericAllocationHandle handle;
  CUmemAllocationProp properties;
  int fd = receive_descriptor();
  EXPECT(
      cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)STDIN_FILENO, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
      CUDA_ERROR_INVALID_VALUE);
  OK(cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  close(fd);
  OK(cuMemGetAllocationPropertiesFromHandle(&properties, handle));
  CHECK(properties.location.id == 0 && used() == SIZE);
  CUdeviceptr at = map(handle);
  OK(cuMemRelease(handle));
  see(at, FROM_PARENT);
  put(at + 100, FROM_CHILD);
  go();
  await();
  see(at, FROM_PARENT);
  unmap(at);
  go();
}

/* ---- external memory, whose exporter is killed ------------------------------------------------------------------- */

static void external_parent(void) {
  CUmemGenericAllocationHandle handle;
  int fd;
  OK(cuMemCreate(&handle, SIZE, &PHYSICAL, 0));
  OK(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  put(map(handle) + 4096, FROM_PARENT);
  send_descriptor(fd);
  await();
  go();
  raise(SIGKILL);
}

static void external_child(void) {
  char nothing;
  CUexternalMemory memory;
  CUdeviceptr p;
  CUDA_EXTERNAL_MEMORY_HANDLE_DESC handle = {.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD, .size = SIZE};
  const CUDA_EXTERNAL_MEMORY_BUFFER_DESC whole = {.size = SIZE + 1};
  const CUDA_EXTERNAL_MEMORY_BUFFER_DESC part = {.offset = 4096, .size = 8192};
  handle.handle.fd = receive_descriptor();
  OK(cuImportExternalMemory(&memory, &handle));
  EXPECT(cuExternalMemoryGetMappedBuffer(&p, memory, &whole), CUDA_ERROR_INVALID_VALUE);
  OK(cuExternalMemoryGetMappedBuffer(&p, memory, &part));
  CHECK(used() == SIZE);
  OK(cuDestroyExternalMemory(memory));
  EXPECT(cuDestroyExternalMemory(memory), CUDA_ERROR_INVALID_HANDLE);
  go();
  await();
  CHECK(read(channel, &nothing, 1) == 0); /* the parent is dead */
  see(p, FROM_PARENT);
  CHECK(used() == SIZE);
  OK(cuMemFree_v2(p));
  CHECK(used() == 0);
}

/* ---- a killed exporter, watched from outside ----------------------------------------------------------------------- */

static void hand_over_parent(void) {
  CUdeviceptr p;
  CUipcMemHandle handle;
  OK(cuMemAlloc_v2(&p, SIZE));
  OK(cuIpcGetMemHandle(&handle, p));
  tell(&handle, sizeof handle);
  await();
  raise(SIGKILL);
}

static void hand_over_child(void) {
  char line[16];
  CUdeviceptr p;
  CUipcMemHandle handle;
  hear(&handle, sizeof handle);
  OK(cuIpcOpenMemHandle_v2(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  printf("%d %d\n", (int)exporter, (int)getpid());
  fflush(stdout);
  CHECK(fgets(line, sizeof line, stdin) != NULL);
  go();
  CHECK(fgets(line, sizeof line, stdin) != NULL);
  OK(cuIpcCloseMemHandle(p));
}

/* ---- pools ------------------------------------------------------------------------------------------------------- */

static void pool_parent(void) {
  CUmemoryPool pool;
  CUdeviceptr p;
  CUmemPoolPtrExportData data;
  int fd;
  const CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                     .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                     .location = PHYSICAL.location};
  OK(cuMemPoolCreate(&pool, &properties));
  OK(cuMemPoolExportToShareableHandle(&fd, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  OK(cuMemAllocFromPoolAsync(&p, 3 * MIB, pool, NULL));
  put(p, FROM_PARENT);
  OK(cuMemPoolExportPointer(&data, p));
  send_descriptor(fd);
  tell(&data, sizeof data);
  await();
  see(p + 100, FROM_CHILD);
  OK(cuMemFreeAsync(p, NULL));
  OK(cuStreamSynchronize(NULL));
  CHECK(used() == 0);
  OK(cuMemPoolDestroy(pool));
}

static void pool_child(void) {
  CUmemoryPool pool;
  CUdeviceptr p;
  CUdeviceptr q;
  CUmemPoolPtrExportData data;
  int fd = receive_descriptor();
  hear(&data, sizeof data);
  OK(cuMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  close(fd);
  EXPECT(cuMemAllocFromPoolAsync(&q, 1, pool, NULL), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemPoolImportPointer(&p, pool, &data));
  CHECK(used() == 4 * MIB);
  see(p, FROM_PARENT);
  put(p + 100, FROM_CHILD);
  OK(cuMemFreeAsync(p, NULL));
  OK(cuMemPoolDestroy(pool));
  go();
}

/* ------------------------------------------------------------------------------------------------------------------ */

typedef struct route {
  const char *name;
  void (*parent)(void);
  void (*child)(void);
} route;

static const route ROUTES[] = {{"ipc", ipc_parent, ipc_child},
                               {"vmm", vmm_parent, vmm_child},
                               {"external", external_parent, external_child},
                               {"pool", pool_parent, pool_child},
                               {"hand-over", hand_over_parent, hand_over_child}};

/* The exporter is a child too, so that this process lives to tell how both ended. */
static pid_t run(void (*part)(void), int end, int other) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child != 0) return child;
  close(other);
  channel = end;
  start();
  part();
  exit(0);
}

int main(int argc, char **argv) {
  for (size_t i = 0; argc == 2 && i < sizeof ROUTES / sizeof *ROUTES; i++) {
    int ends[2];
    int status;
    if (strcmp(argv[1], ROUTES[i].name) != 0) continue;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    pid_t parent = run(ROUTES[i].parent, ends[0], ends[1]);
    exporter = parent;
    pid_t child = run(ROUTES[i].child, ends[1], ends[0]);
    close(ends[0]);
    close(ends[1]);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(waitpid(parent, &status, 0) == parent);
    return status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ? 0 : 1;
  }
  return 64;
}
