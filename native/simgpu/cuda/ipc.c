/* cuIpc*: allocations of other processes.
 *
 * What is exported moves into a file (memory_move_to_file) and becomes a share.  A handle names the exporter's
 * descriptor; who opens it finds that under /proc, and so must be of the exporter's pid namespace and user.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backing.h"
#include "memory.h"

#define HANDLE_MAGIC 0x43504953u

typedef struct ipc_handle {
  uint32_t magic;
  int32_t pid;
  int32_t fd;
  sim_share_name share;
  uint64_t inode; /* of the file, since descriptors are reused */
  uint64_t size;
} ipc_handle;

static_assert(sizeof(ipc_handle) <= CU_IPC_HANDLE_SIZE, "a handle has 64 bytes");

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* an allocation is exported once, a handle opened once */

/* ---- the exporter's side ----------------------------------------------------------------------------------------- */

static CUresult make_shared(memory *range) {
  const gpu *of = &the_driver.devices[range->ordinal];
  backing_note note = {.kind = BACKING_LINEAR, .on_card = 1, .size = range->size, .share = SIM_NO_SHARE};
  memcpy(note.uuid, of->facts.uuid, sizeof note.uuid);
  int fd = backing_new(&note);
  if (fd < 0) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = driver_error(sim_share_make(&the_driver.session, of->card, range->size, &note.share));
  if (result == CUDA_SUCCESS) {
    result = backing_write(fd, &note) ? memory_move_to_file(range->base, fd, 0, note.share) : CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_SUCCESS) {
      sim_share_drop(&the_driver.session, note.share);
      sim_charge(&the_driver.session, of->card, range->size);
    }
  }
  if (result != CUDA_SUCCESS) close(fd);
  return result == CUDA_SUCCESS && memory_find(range->base, range) ? CUDA_SUCCESS : result;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *pHandle, CUdeviceptr dptr) {
  CUcontext current;
  memory range;
  struct stat status;
  NEED(pHandle != NULL);
  TRY(context_current(&current));
  NEED(memory_find((uintptr_t)dptr, &range) && range.kind == MEMORY_DEVICE && range.pool == NULL);
  pthread_mutex_lock(&mutex);
  CUresult result = memory_find(range.base, &range) && range.shared ? CUDA_SUCCESS : make_shared(&range);
  pthread_mutex_unlock(&mutex);
  if (result != CUDA_SUCCESS) return result;
  if (fstat(range.fd, &status) != 0) return CUDA_ERROR_OPERATING_SYSTEM;
  const ipc_handle handle = {.magic = HANDLE_MAGIC,
                             .pid = (int32_t)getpid(),
                             .fd = range.fd,
                             .share = range.share,
                             .inode = status.st_ino,
                             .size = range.size};
  memset(pHandle, 0, sizeof *pHandle);
  memcpy(pHandle, &handle, sizeof handle);
  return CUDA_SUCCESS;
}

/* ---- the importer's side ----------------------------------------------------------------------------------------- */

typedef struct opened {
  ipc_handle handle;
  CUcontext context;
  uintptr_t address;
  unsigned int references;
  struct opened *next;
} opened;

static opened *all_opened;

static int open_file(const ipc_handle *handle, backing_note *note) {
  char path[64];
  struct stat status;
  snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)handle->pid, (int)handle->fd);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return -1;
  if (fstat(fd, &status) == 0 && status.st_ino == handle->inode && backing_read(fd, BACKING_LINEAR, note) &&
      note->size == handle->size)
    return fd;
  close(fd);
  return -1;
}

static CUresult map(const ipc_handle *handle, CUcontext context, uintptr_t *address) {
  backing_note note;
  memory wanted = {.kind = MEMORY_IPC, .context = context, .size = handle->size, .shared = true, .fd = -1};
  int fd = open_file(handle, &note);
  if (fd < 0) return CUDA_ERROR_INVALID_VALUE;
  CUresult result = backing_device(&note, &wanted.ordinal);
  void *pages = result == CUDA_SUCCESS ? backing_map(fd, 0, wanted.size, NULL) : NULL;
  close(fd);
  TRY(result);
  if (pages == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  wanted.base = (uintptr_t)pages;
  wanted.share = note.share;
  if (sim_share_hold(&the_driver.session, note.share) != SIM_OK) {
    munmap(pages, wanted.size);
    return CUDA_ERROR_INVALID_VALUE;
  }
  result = memory_record(&wanted);
  if (result != CUDA_SUCCESS) {
    sim_share_drop(&the_driver.session, note.share);
    munmap(pages, wanted.size);
  }
  *address = wanted.base;
  return result;
}

static bool still_open(const opened *one) {
  memory range;
  return memory_find(one->address, &range) && range.kind == MEMORY_IPC && range.base == one->address;
}

/* The entry of a handle that this context has open. */
static opened *find_open(const ipc_handle *handle, CUcontext context) {
  for (opened *one = all_opened; one != NULL; one = one->next)
    if (one->references > 0 && one->context == context && memcmp(&one->handle, handle, sizeof *handle) == 0 &&
        still_open(one))
      return one;
  return NULL;
}

static CUresult open_locked(const ipc_handle *handle, CUcontext context, uintptr_t *address) {
  opened *one = find_open(handle, context);
  if (one == NULL) {
    one = calloc(1, sizeof *one);
    if (one == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = map(handle, context, &one->address);
    if (result != CUDA_SUCCESS) {
      free(one);
      return result;
    }
    one->handle = *handle;
    one->context = context;
    one->next = all_opened;
    all_opened = one;
  }
  one->references++;
  *address = one->address;
  return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *pdptr, CUipcMemHandle handle, unsigned int Flags) {
  CUcontext current;
  ipc_handle wanted;
  uintptr_t address = 0;
  NEED(pdptr != NULL && Flags == CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  TRY(context_current(&current));
  memcpy(&wanted, &handle, sizeof wanted);
  NEED(wanted.magic == HANDLE_MAGIC);
  if (wanted.pid == (int32_t)getpid()) return CUDA_ERROR_INVALID_CONTEXT;
  pthread_mutex_lock(&mutex);
  CUresult result = open_locked(&wanted, current, &address);
  pthread_mutex_unlock(&mutex);
  if (result == CUDA_SUCCESS) *pdptr = address;
  return result;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr dptr) {
  CUcontext current;
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  TRY(context_current(&current));
  pthread_mutex_lock(&mutex);
  for (opened **link = &all_opened, *one; (one = *link) != NULL; link = &one->next) {
    if (one->address != dptr) continue;
    result = CUDA_SUCCESS;
    if (--one->references > 0) break;
    *link = one->next;
    free(one);
    result = memory_free((uintptr_t)dptr, MEMORY_IPC);
    break;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}
