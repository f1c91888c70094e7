#include "nap.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)
#define MOST_NS UINT64_C(20000000) /* the engine hears of a death no later than this, as long as anybody waits */
#define HOST_NS 200000L

static uint32_t host_work_done;

/* The kernel gives timers of ordinary threads 50 µs of slack, more than a short kernel takes. */
static void sleep_until(uint64_t time_ns) {
  const struct timespec until = {.tv_sec = (time_t)(time_ns / NS_PER_S), .tv_nsec = (long)(time_ns % NS_PER_S)};
  int slack = prctl(PR_GET_TIMERSLACK);
  prctl(PR_SET_TIMERSLACK, 1UL);
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
  if (slack > 1) prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
}

void nap(uint64_t now_ns, uint64_t least_ns) {
  int kept = errno;
  if (least_ns > 0) {
    sleep_until(now_ns + (least_ns < MOST_NS ? least_ns : MOST_NS));
  } else {
    const struct timespec limit = {.tv_sec = 0, .tv_nsec = HOST_NS};
    uint32_t seen = __atomic_load_n(&host_work_done, __ATOMIC_ACQUIRE);
    syscall(SYS_futex, &host_work_done, FUTEX_WAIT_PRIVATE, seen, &limit, NULL, 0);
  }
  errno = kept;
}

void nap_over(void) {
  __atomic_add_fetch(&host_work_done, 1u, __ATOMIC_RELEASE);
  syscall(SYS_futex, &host_work_done, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
