#include "prim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { RAISED_FD = 200, MADV_WIPEONFORK_VALUE = 18, STATFS_READONLY = 1, OFD_SETLK = 37 };

/* The C library's wrappers of these calls are cancellation points; syscall() is not. */
static long call(long number, long a, long b, long c, long d) {
  int saved = errno;
  long result = syscall(number, a, b, c, d);
  if (result == -1) result = -(long)errno;
  errno = saved;
  return result;
}

int prim_open(const char *path, bool writable) {
  int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  return (int)call(SYS_openat, AT_FDCWD, (long)path, flags, 0);
}

void prim_close(int fd) {
  if (fd >= 0) (void)call(SYS_close, fd, 0, 0, 0);
}

void prim_close_cleanup(int *fd) { prim_close(*fd); }

int prim_raise(int fd) {
  long raised = call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, RAISED_FD, 0);
  if (raised < 0) return fd; /* a small RLIMIT_NOFILE: stay where we are */
  prim_close(fd);
  return (int)raised;
}

int prim_stat(int fd, struct prim_file *out) {
  struct stat
      st; /* laid out as the kernel has it, on 64-bit machines; old glibc has no fstat to link to, new musl no __fxstat */
  int failed = (int)call(SYS_fstat, fd, (long)&st, 0, 0);
  if (failed != 0) return failed;
  out->device = (uint64_t)st.st_dev;
  out->inode = (uint64_t)st.st_ino;
  out->size = (uint64_t)st.st_size;
  out->regular = S_ISREG(st.st_mode);
  return 0;
}

bool prim_on_readonly_mount(int fd) {
  struct statfs fs;
  memset(&fs, 0, sizeof fs);
  if (call(SYS_fstatfs, fd, (long)&fs, 0, 0) < 0) return false;
  return ((unsigned long)fs.f_flags & STATFS_READONLY) != 0;
}

static void *mapped(size_t size, int protection, int flags, int fd) {
  int saved = errno;
  void *address = mmap(NULL, size, protection, flags, fd, 0);
  errno = saved;
  return address == MAP_FAILED ? NULL : address;
}

void *prim_map(int fd, size_t size, bool writable) {
  return mapped(size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd);
}

void *prim_pages(size_t size) { return mapped(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

void prim_unmap(void *address, size_t size) {
  int saved = errno;
  if (address != NULL) (void)munmap(address, size);
  errno = saved;
}

bool prim_wipe_on_fork(void *address, size_t size) {
  int saved = errno;
  bool done = madvise(address, size, MADV_WIPEONFORK_VALUE) == 0;
  errno = saved;
  return done;
}

static int record_lock(int fd, uint64_t offset, int command, struct flock *lock) {
  lock->l_whence = SEEK_SET;
  lock->l_start = (off_t)offset;
  lock->l_len = 1;
  long result = call(SYS_fcntl, fd, command, (long)lock, 0);
  return result == -EACCES ? -EAGAIN : (int)result;
}

int prim_byte_take(int fd, uint64_t offset) {
  return record_lock(fd, offset, F_SETLK, &(struct flock){.l_type = F_WRLCK});
}

int prim_byte_drop(int fd, uint64_t offset) {
  return record_lock(fd, offset, F_SETLK, &(struct flock){.l_type = F_UNLCK});
}

int prim_byte_holder(int fd, uint64_t offset, int32_t *pid) {
  struct flock lock = {.l_type = F_WRLCK};
  int result = record_lock(fd, offset, F_GETLK, &lock);
  if (result < 0) return result;
  *pid = lock.l_pid > 0 ? (int32_t)lock.l_pid : 0;
  return lock.l_type != F_UNLCK;
}

int prim_byte_held(int fd, uint64_t offset) {
  int32_t pid;
  return prim_byte_holder(fd, offset, &pid);
}

int prim_mark(int fd, uint64_t offset, uint64_t bytes) {
  struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = (off_t)bytes};
  return (int)call(SYS_fcntl, fd, OFD_SETLK, (long)&lock, 0);
}

size_t prim_read(int fd, void *out, size_t room) {
  size_t filled = 0;
  for (long more = 1; filled < room && more > 0; filled += more > 0 ? (size_t)more : 0)
    more = call(SYS_read, fd, (long)((char *)out + filled), (long)(room - filled), 0);
  return filled;
}

int prim_random(void *out, size_t size) {
  PRIM_AUTOCLOSE int fd = prim_open("/dev/urandom", false);
  return fd >= 0 && prim_read(fd, out, size) == size ? 0 : -1;
}

void prim_futex_wait(uint32_t *word, uint32_t expected, uint64_t timeout_ns, bool shared) {
  struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u)};
  (void)call(SYS_futex, (long)word, shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, (long)expected, (long)&timeout);
}

void prim_futex_wake(uint32_t *word, int count, bool shared) {
  (void)call(SYS_futex, (long)word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, count, 0);
}

/* What getdents64 returns; the C library of 2.17 does not declare it. */
struct directory_entry {
  uint64_t inode;
  int64_t next;
  uint16_t length;
  uint8_t type;
  char name[];
};

int prim_each_directory(const char *path, int (*visit)(const char *name, void *context), void *context) {
  PRIM_AUTOCLOSE int fd = (int)call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  _Alignas(struct directory_entry) char buffer[4096];
  for (;;) {
    long filled = call(SYS_getdents64, fd, (long)buffer, sizeof buffer, 0);
    if (filled <= 0) return (int)filled;
    for (long at = 0; at < filled;) {
      struct directory_entry *entry = (struct directory_entry *)(void *)(buffer + at);
      at += entry->length;
      bool directory = entry->type == DT_DIR || entry->type == DT_UNKNOWN;
      if (!directory || strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) continue;
      int result = visit(entry->name, context);
      if (result < 0) return result;
    }
  }
}

int32_t prim_pid(void) { return (int32_t)getpid(); }

static uint64_t clock_ns(clockid_t clock) {
  struct timespec now = {0};
  int saved = errno;
  (void)clock_gettime(clock, &now);
  errno = saved;
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t prim_boottime_ns(void) { return clock_ns(CLOCK_BOOTTIME); }

uint64_t prim_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

uint64_t prim_realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }

uint64_t prim_coarse_ns(void) { return clock_ns(CLOCK_MONOTONIC_COARSE); }
