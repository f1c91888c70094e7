/* Pools that other processes import, and pointers from one process's pool to another's.
 *
 * A pool that may be shared has a file; an allocation whose pointer is exported moves into it, to a place of its own.
 * The descriptor of the pool is what processes hand to each other.  Only the pool's process allocates from it and is
 * charged for it.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backing.h"
#include "memory.h"
#include "pool.h"

#define FILE_BYTES ((uint64_t)1 << 44) /* addresses within the file, of which each is used once */
#define PAGE_BYTES 4096u

typedef struct pointer_data {
  char magic[8];
  uint64_t offset;
  uint64_t size;
} pointer_data;

static_assert(sizeof(pointer_data) <= sizeof(CUmemPoolPtrExportData), "what is handed over fits");

#define MAGIC "SIMPTR01"
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps) {
  gpu *found;
  NEED(pool != NULL && poolProps != NULL && poolProps->allocType == CU_MEM_ALLOCATION_TYPE_PINNED);
  const bool shareable = poolProps->handleTypes == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  if (poolProps->handleTypes != CU_MEM_HANDLE_TYPE_NONE && !shareable) return CUDA_ERROR_NOT_SUPPORTED;
  if (poolProps->location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
  TRY(driver_device(poolProps->location.id, &found));
  backing_note note = {
      .kind = BACKING_POOL, .on_card = 1, .size = FILE_BYTES, .share = SIM_NO_SHARE, .pool = *poolProps};
  memcpy(note.uuid, found->facts.uuid, sizeof note.uuid);
  int fd = shareable ? backing_new(&note) : -1;
  if (shareable && fd < 0) return CUDA_ERROR_OUT_OF_MEMORY;
  CUmemoryPool made = pool_new(poolProps->location.id, poolProps);
  if (made == NULL) {
    if (fd >= 0) close(fd);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  made->fd = fd;
  *pool = made;
  return CUDA_SUCCESS;
}

CUresult cuMemPoolExportToShareableHandle(void *handle_out, CUmemoryPool pool, CUmemAllocationHandleType handleType,
                                          unsigned long long flags) {
  NEED(handle_out != NULL && flags == 0);
  TRY(driver_ready());
  NEED(pool_open(pool) && pool->fd >= 0 && handleType == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  int fd = fcntl(pool->fd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return CUDA_ERROR_OPERATING_SYSTEM;
  memcpy(handle_out, &fd, sizeof fd);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool_out, void *handle, CUmemAllocationHandleType handleType,
                                            unsigned long long flags) {
  backing_note note;
  CUdevice ordinal;
  NEED(pool_out != NULL && flags == 0 && handleType == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  TRY(driver_ready());
  int fd = fcntl((int)(intptr_t)handle, F_DUPFD_CLOEXEC, 3);
  CUresult result =
      fd >= 0 && backing_read(fd, BACKING_POOL, &note) ? backing_device(&note, &ordinal) : CUDA_ERROR_INVALID_VALUE;
  CUmemoryPool made = NULL;
  if (result == CUDA_SUCCESS) {
    note.pool.location.id = ordinal;
    made = pool_new(ordinal, &note.pool);
    if (made == NULL) result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  if (result != CUDA_SUCCESS) {
    if (fd >= 0) close(fd);
    return result;
  }
  made->fd = fd;
  made->imported = true;
  *pool_out = made;
  return CUDA_SUCCESS;
}

/* ---- pointers ---------------------------------------------------------------------------------------------------- */

static CUresult export_locked(memory *range) {
  if (range->shared) return CUDA_SUCCESS;
  CUmemoryPool pool = range->pool;
  uint64_t size = (range->size + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
  if (size > FILE_BYTES - pool->file_used) return CUDA_ERROR_OUT_OF_MEMORY;
  TRY(memory_move_to_file(range->base, pool->fd, pool->file_used, SIM_NO_SHARE));
  range->offset = pool->file_used;
  pool->file_used += size;
  return CUDA_SUCCESS;
}

CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData *shareData_out, CUdeviceptr ptr) {
  memory range;
  NEED(shareData_out != NULL);
  TRY(driver_ready());
  pthread_mutex_lock(&mutex);
  bool good = memory_find((uintptr_t)ptr, &range) && range.base == ptr && range.kind == MEMORY_DEVICE &&
              range.pool != NULL && range.pool->fd >= 0;
  CUresult result = good ? export_locked(&range) : CUDA_ERROR_INVALID_VALUE;
  pthread_mutex_unlock(&mutex);
  if (result != CUDA_SUCCESS) return result;
  pointer_data data = {.offset = range.offset, .size = range.size};
  memcpy(data.magic, MAGIC, sizeof data.magic);
  memset(shareData_out, 0, sizeof *shareData_out);
  memcpy(shareData_out, &data, sizeof data);
  return CUDA_SUCCESS;
}

CUresult cuMemPoolImportPointer(CUdeviceptr *ptr_out, CUmemoryPool pool, CUmemPoolPtrExportData *shareData) {
  CUcontext current;
  pointer_data data;
  NEED(ptr_out != NULL && shareData != NULL);
  TRY(context_current(&current));
  NEED(pool_open(pool) && pool->imported);
  memcpy(&data, shareData, sizeof data);
  NEED(memcmp(data.magic, MAGIC, sizeof data.magic) == 0 && data.size > 0 && data.size <= FILE_BYTES);
  NEED(data.offset <= FILE_BYTES - data.size && data.offset % PAGE_BYTES == 0);
  void *pages = backing_map(pool->fd, data.offset, data.size, NULL);
  if (pages == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  memory wanted = {.base = (uintptr_t)pages,
                   .size = data.size,
                   .kind = MEMORY_EXTERNAL,
                   .context = current,
                   .ordinal = pool->ordinal};
  CUresult result = memory_record(&wanted);
  if (result == CUDA_SUCCESS)
    *ptr_out = wanted.base;
  else
    munmap(pages, data.size);
  return result;
}
