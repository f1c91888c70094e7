/* The lock in the usage file's header, and who owns a slot.
 *
 * The lock word names its owner by slot.  An owner is dead when the kernel lets us take the record lock of its slot's byte; we
 * hold that byte while we take the word over, so that neither a second heir nor a new owner of the slot can come between.
 */
#include <errno.h>
#include <string.h>

#include "prim.h"
#include "usage.h"

#define WAITERS 0x80000000u

enum { SPINS = 200 };
static const uint64_t NAP_NS = 2000000u;
static const uint64_t GIVE_UP_NS = 2000000000u;

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static bool swap(uint32_t *word, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

bool usage_fd_is_ours(const guard_usage *usage) {
  struct prim_file file;
  return usage->fd >= 0 && prim_stat(usage->fd, &file) == 0 && file.device == usage->device &&
         file.inode == usage->inode;
}

void usage_shared_recount(guard_usage *usage) {
  if (!usage_fd_is_ours(usage)) return; /* we could not tell the dead from the living */
  hami_usage *shared = usage->shared;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) {
    hami_usage_slot *slot = &shared->slots[i];
    if (__atomic_load_n(&slot->state, __ATOMIC_RELAXED) == 0 && usage_load(&slot->used_bytes) == 0) continue;
    if ((int)i != usage->slot && prim_byte_held(usage->fd, usage_byte(i)) == 0) {
      memset(slot, 0, sizeof *slot);
    } else {
      sum = usage_add(sum, usage_load(&slot->used_bytes));
    }
  }
  usage_store(&shared->header.used_bytes, sum);
}

/* Takes the lock from an owner that cannot give it back; -EAGAIN when it lives or somebody was faster. */
static int take_over(guard_usage *usage, uint32_t seen, uint32_t mine) {
  hami_usage_header *header = &usage->shared->header;
  uint32_t owner = seen & ~WAITERS;
  bool nobody = owner == 0 || owner > HAMI_USAGE_SLOTS || owner == mine;
  if (!nobody) {
    if (!usage_fd_is_ours(usage)) return -EAGAIN;
    if (prim_byte_take(usage->fd, usage_byte(owner - 1)) != 0) return -EAGAIN;
  }
  bool taken = swap(&header->lock, seen, mine | WAITERS);
  if (taken) {
    header->lock_takeovers_total++;
    usage_shared_recount(usage);
  }
  if (!nobody) (void)prim_byte_drop(usage->fd, usage_byte(owner - 1));
  return taken ? 0 : -EAGAIN;
}

static int wait_for_lock(guard_usage *usage, uint32_t mine) {
  uint32_t *word = &usage->shared->header.lock;
  uint64_t give_up = prim_monotonic_ns() + GIVE_UP_NS;
  for (;;) {
    uint32_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
    if (seen == 0) {
      if (swap(word, 0, mine | WAITERS)) return 0;
      continue;
    }
    if (take_over(usage, seen, mine) == 0) return 0;
    if ((seen & WAITERS) == 0 && !swap(word, seen, seen | WAITERS)) continue;
    prim_futex_wait(word, seen | WAITERS, NAP_NS, true);
    if (prim_monotonic_ns() > give_up) return -ETIMEDOUT;
  }
}

int usage_shared_take(guard_usage *usage) {
  uint32_t *word = &usage->shared->header.lock;
  uint32_t mine = (uint32_t)usage->slot + 1u;
  for (int spin = 0; spin < SPINS; spin++) {
    if (__atomic_load_n(word, __ATOMIC_RELAXED) == 0 && swap(word, 0, mine)) return 0;
    pause_cpu();
  }
  return wait_for_lock(usage, mine);
}

void usage_shared_drop(guard_usage *usage) {
  uint32_t *word = &usage->shared->header.lock;
  if ((__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) & WAITERS) != 0) prim_futex_wake(word, 1, true);
}

bool usage_slot_is_ours(const guard_usage *usage) {
  const hami_usage_slot *slot = &usage->shared->slots[usage->slot];
  return __atomic_load_n(&slot->state, __ATOMIC_RELAXED) == 1 && usage_load(&slot->start_time_ns) == usage->started_ns;
}

/* The slot's byte is ours, its content still its predecessor's, who may have died with the lock in hand. */
static int move_in(guard_usage *usage, uint32_t index) {
  hami_usage *shared = usage->shared;
  usage->slot = (int)index;
  int result = usage_shared_take(usage);
  if (result < 0) {
    (void)prim_byte_drop(usage->fd, usage_byte(index));
    usage->slot = USAGE_NO_SLOT;
    return result;
  }
  hami_usage_slot *slot = &shared->slots[index];
  memset(slot, 0, sizeof *slot);
  usage->started_ns = prim_boottime_ns();
  slot->pid = prim_pid();
  usage_store(&slot->start_time_ns, usage->started_ns);
  __atomic_store_n(&slot->state, 1u, __ATOMIC_RELAXED);
  usage_shared_recount(usage); /* also for whoever reads the counter from outside: the dead do not stay in it */
  usage_shared_drop(usage);
  return 0;
}

int usage_slot_claim(guard_usage *usage, guard_error *err) {
  usage->slot = USAGE_NO_SLOT;
  for (int reuse = 0; reuse < 2; reuse++) { /* first the free ones, then those whose owner died */
    for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) {
      uint32_t state = __atomic_load_n(&usage->shared->slots[i].state, __ATOMIC_RELAXED);
      if ((state != 0) != (reuse != 0)) continue;
      if (prim_byte_take(usage->fd, usage_byte(i)) != 0) continue;
      int result = move_in(usage, i);
      return result < 0 ? guard_fail(err, -result, "usage: the lock is stuck") : 0;
    }
  }
  return guard_fail(err, EUSERS, "usage: no free slot");
}
