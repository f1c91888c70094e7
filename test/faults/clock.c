/* A wall clock that jumps, for one process: preloaded, it adds an offset to what libc answers.

The offset is read from a mapped file, so that a test moves it while the process runs; the file counts the answers that were
off, so that the test knows that somebody heard them.  The monotonic clocks stay as they are, and so do the times of files, which
are the kernel's.  Waits until a moment of the wall clock (a semaphore, a condition, a futex) do as in the kernel: a jump ahead
ends them, a jump back makes them longer, also those that are under way; they look at the offset every 50 ms. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct jump {
  _Atomic int64_t offset_s;
  _Atomic uint64_t answers;
};

static const long slice_ns = 50000000;
/* Condition variables may wait by the monotonic clock, which no call tells: a moment this late is the wall clock's. */
static const time_t latest_uptime_s = 500000000;
static struct jump still;
static struct jump *jump = &still;

__attribute__((constructor)) static void open_jump(void) {
  const char *path = getenv("HAMI_TEST_CLOCK");
  int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *found = mmap(NULL, sizeof *jump, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (found != MAP_FAILED) jump = found;
  close(file);
}

static int64_t offset_s(void) { return atomic_load_explicit(&jump->offset_s, memory_order_relaxed); }

/* The function of libc that one of ours stands before. */
static void *behind(_Atomic(void *) *known, const char *name) {
  void *found = atomic_load_explicit(known, memory_order_relaxed);
  if (found == NULL) {
    found = dlsym(RTLD_NEXT, name);
    atomic_store_explicit(known, found, memory_order_relaxed);
  }
  return found;
}

#define BEHIND(name)                          \
  ({                                          \
    static _Atomic(void *) known;             \
    (__typeof__(&name))behind(&known, #name); \
  })

static time_t moved(time_t seconds) {
  int64_t offset = offset_s();
  if (offset) atomic_fetch_add_explicit(&jump->answers, 1, memory_order_relaxed);
  return seconds + (time_t)offset;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now) {
  int status = BEHIND(clock_gettime)(clock, now);
  if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec = moved(now->tv_sec);
  return status;
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int status = BEHIND(gettimeofday)(now, zone);
  if (status == 0) now->tv_sec = moved(now->tv_sec);
  return status;
}

__attribute__((visibility("default"))) time_t time(time_t *result) {
  time_t now = moved(BEHIND(time)(NULL));
  if (result) *result = now;
  return now;
}

static int before(struct timespec left, struct timespec right) {
  return left.tv_sec < right.tv_sec || (left.tv_sec == right.tv_sec && left.tv_nsec < right.tv_nsec);
}

/* Up to when to wait now for a moment of the moved clock, by the kernel's; says whether that is the moment itself. */
static int next_look(const struct timespec *moment, struct timespec *look) {
  BEHIND(clock_gettime)(CLOCK_REALTIME, look);
  look->tv_nsec += slice_ns;
  if (look->tv_nsec >= 1000000000) {
    look->tv_nsec -= 1000000000;
    look->tv_sec++;
  }
  struct timespec real = {.tv_sec = moment->tv_sec - (time_t)offset_s(), .tv_nsec = moment->tv_nsec};
  if (before(*look, real)) return 0;
  *look = real;
  if (real.tv_sec < 0) *look = (struct timespec){0};
  return 1;
}

__attribute__((visibility("default"))) int sem_timedwait(sem_t *restrict semaphore,
                                                         const struct timespec *restrict moment) {
  for (;;) {
    struct timespec look;
    int last = next_look(moment, &look);
    int status = BEHIND(sem_timedwait)(semaphore, &look);
    if (status == 0 || errno != ETIMEDOUT || last) return status;
  }
}

/* Ends without cause now and then, as POSIX lets it. */
__attribute__((visibility("default"))) int pthread_cond_timedwait(pthread_cond_t *restrict condition,
                                                                  pthread_mutex_t *restrict mutex,
                                                                  const struct timespec *restrict moment) {
  if (moment->tv_sec < latest_uptime_s) return BEHIND(pthread_cond_timedwait)(condition, mutex, moment);
  struct timespec look;
  int last = next_look(moment, &look);
  int status = BEHIND(pthread_cond_timedwait)(condition, mutex, &look);
  return status == ETIMEDOUT && !last ? 0 : status;
}

static int waits_by_wall_clock(long number, const long *words) {
  const long flags = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME;
  return number == SYS_futex && (words[1] & ~(long)FUTEX_PRIVATE_FLAG) == flags && words[3] != 0;
}

__attribute__((visibility("default"))) long syscall(long number, ...) {
  long words[6];
  va_list arguments;
  va_start(arguments, number);
  for (int index = 0; index < 6; index++) words[index] = va_arg(arguments, long);
  va_end(arguments);
  for (;;) {
    struct timespec look;
    int last = 1;
    long wait = words[3];
    if (waits_by_wall_clock(number, words)) {
      last = next_look((const struct timespec *)words[3], &look);
      wait = (long)&look;
    }
    long status = BEHIND(syscall)(number, words[0], words[1], words[2], wait, words[4], words[5]);
    if (status >= 0 || errno != ETIMEDOUT || last) return status;
  }
}
