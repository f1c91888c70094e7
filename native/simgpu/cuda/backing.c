#include "backing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAGIC "SIMMEM01"
#define PAGE_BYTES 4096u

static_assert(sizeof(backing_note) <= PAGE_BYTES, "a note is a page at most");

static uint64_t rounded(uint64_t size) { return (size + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1); }

bool backing_write(int fd, const backing_note *note) {
  backing_note written = *note;
  memcpy(written.magic, MAGIC, sizeof written.magic);
  return pwrite(fd, &written, sizeof written, (off_t)rounded(note->size)) == (ssize_t)sizeof written;
}

int backing_new(const backing_note *note) {
  int fd = (int)syscall(SYS_memfd_create, "simgpu", 1u /* MFD_CLOEXEC */);
  if (fd < 0) return -1;
  if (note->size <= INT64_MAX - 2 * PAGE_BYTES && ftruncate(fd, (off_t)(rounded(note->size) + PAGE_BYTES)) == 0 &&
      backing_write(fd, note))
    return fd;
  close(fd);
  return -1;
}

bool backing_read(int fd, backing_kind kind, backing_note *note) {
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < (off_t)PAGE_BYTES) return false;
  if (pread(fd, note, sizeof *note, status.st_size - (off_t)PAGE_BYTES) != (ssize_t)sizeof *note) return false;
  note->uuid[sizeof note->uuid - 1] = '\0';
  return memcmp(note->magic, MAGIC, sizeof note->magic) == 0 && note->kind == (uint32_t)kind && note->size > 0 &&
         note->size <= INT64_MAX - 2 * PAGE_BYTES && rounded(note->size) + PAGE_BYTES == (uint64_t)status.st_size;
}

CUresult backing_device(const backing_note *note, CUdevice *ordinal) {
  for (*ordinal = 0; *ordinal < the_driver.device_count; ++*ordinal)
    if (strcmp(the_driver.devices[*ordinal].facts.uuid, note->uuid) == 0) return CUDA_SUCCESS;
  return CUDA_ERROR_INVALID_DEVICE;
}

void *backing_map(int fd, uint64_t offset, size_t size, void *address) {
  int flags = MAP_SHARED | MAP_NORESERVE | (address != NULL ? MAP_FIXED : 0);
  void *mapped = mmap(address, size, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
  return mapped == MAP_FAILED ? NULL : mapped;
}
