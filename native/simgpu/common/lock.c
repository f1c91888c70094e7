#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_GETLK
#define F_OFD_GETLK 36 /* Linux 3.15; glibc 2.17 does not know it */
#endif

#define SPINS 100
#define WAIT_NS 2000000L
#define GIVE_UP_AFTER_WAITS 5000 /* about ten seconds: nothing honest holds the lock for a millisecond */

uint32_t sim_lock_word(uint32_t slot, uint32_t ticket) {
  return ((ticket << 11) | ((slot + 1) & SIM_LOCK_SLOT_MASK)) & ~SIM_LOCK_WAITERS;
}

static struct flock slot_range(uint32_t slot, short type) {
  struct flock range;
  memset(&range, 0, sizeof range);
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = SIM_SLOT_LOCKS + (off_t)slot;
  range.l_len = 1;
  return range;
}

bool sim_slot_claim(int fd, uint32_t slot) {
  struct flock range = slot_range(slot, F_WRLCK);
  return fcntl(fd, F_SETLK, &range) == 0;
}

void sim_slot_release(int fd, uint32_t slot) {
  struct flock range = slot_range(slot, F_UNLCK);
  (void)fcntl(fd, F_SETLK, &range);
}

bool sim_slot_owner(int fd, uint32_t slot, pid_t *pid) {
  struct flock range = slot_range(slot, F_WRLCK);
  /* Asked as an open file description, so that locks of this very process are seen too. */
  if (fcntl(fd, F_OFD_GETLK, &range) != 0) {
    range = slot_range(slot, F_WRLCK);
    if (fcntl(fd, F_GETLK, &range) != 0) range.l_type = F_UNLCK;
  }
  if (pid != NULL) *pid = range.l_pid > 0 ? range.l_pid : 0;
  return range.l_type != F_UNLCK;
}

static bool owner_alive(const sim_store *store, uint32_t seen, uint32_t word) {
  uint32_t owner = (seen & SIM_LOCK_SLOT_MASK);
  if (owner == 0) return false;
  if ((seen & ~SIM_LOCK_WAITERS) == word) return true; /* another thread of this process */
  /* Our own slot with another ticket: its owner died before we took it. */
  if (owner == (word & SIM_LOCK_SLOT_MASK)) return false;
  return sim_slot_owner(store->fd, owner - 1, NULL);
}

static void sleep_on(uint32_t *lock, uint32_t seen) {
  const struct timespec limit = {.tv_sec = 0, .tv_nsec = WAIT_NS};
  int kept = errno;
  syscall(SYS_futex, lock, FUTEX_WAIT, seen, &limit, NULL, 0);
  errno = kept;
}

static bool exchange(uint32_t *lock, uint32_t seen, uint32_t wanted) {
  return __atomic_compare_exchange_n(lock, &seen, wanted, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

sim_status sim_lock_take(const sim_store *store, uint32_t *lock, uint32_t *sequence, uint32_t word, bool *stolen) {
  uint32_t waiters = 0;
  for (int spins = 0, waits = 0;;) {
    uint32_t seen = __atomic_load_n(lock, __ATOMIC_RELAXED);
    if (seen == 0) {
      if (exchange(lock, 0, word | waiters)) break;
    } else if (spins < SPINS) {
      spins++;
    } else if (waits > 0 && !owner_alive(store, seen, word)) {
      *stolen = exchange(lock, seen, word | SIM_LOCK_WAITERS);
      if (*stolen) break;
    } else if (waits >= GIVE_UP_AFTER_WAITS) {
      return SIM_BUSY;
    } else if ((seen & SIM_LOCK_WAITERS) != 0 || exchange(lock, seen, seen | SIM_LOCK_WAITERS)) {
      sleep_on(lock, seen | SIM_LOCK_WAITERS);
      waiters = SIM_LOCK_WAITERS;
      waits++;
    }
  }
  /* Odd already if an owner died at work.  Changes under the lock are stores with release: nobody sees one before this. */
  __atomic_store_n(sequence, __atomic_load_n(sequence, __ATOMIC_RELAXED) | 1u, __ATOMIC_RELAXED);
  return SIM_OK;
}

void sim_lock_give(uint32_t *lock, uint32_t *sequence) {
  __atomic_store_n(sequence, (__atomic_load_n(sequence, __ATOMIC_RELAXED) | 1u) + 1u, __ATOMIC_RELEASE);
  uint32_t before = __atomic_exchange_n(lock, 0, __ATOMIC_RELEASE);
  if ((before & SIM_LOCK_WAITERS) != 0) {
    int kept = errno;
    syscall(SYS_futex, lock, FUTEX_WAKE, 1, NULL, NULL, 0);
    errno = kept;
  }
}

sim_status sim_lock(const sim_store *store, uint32_t word) {
  sim_header *header = &store->map->header;
  bool stolen = false;
  sim_status status = sim_lock_take(store, &header->lock, &header->sequence, word, &stolen);
  if (stolen) __atomic_store_n(&header->sums_stale, 1u, __ATOMIC_RELAXED);
  return status;
}

void sim_unlock(const sim_store *store) { sim_lock_give(&store->map->header.lock, &store->map->header.sequence); }

bool sim_lock_held(const sim_store *store, uint32_t seen) {
  uint32_t owner = seen & SIM_LOCK_SLOT_MASK;
  return owner != 0 && sim_slot_owner(store->fd, owner - 1, NULL);
}
