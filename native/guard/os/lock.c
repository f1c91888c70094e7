#include "lock.h"

#include "prim.h"

enum { SPINS = 100 };
static const uint64_t WAIT_NS =
    100000000u; /* a wake-up cannot be lost; the bound only keeps a bug from becoming a hang */

static inline void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

void guard_lock_wait(guard_lock *lock) {
  for (int spin = 0; spin < SPINS; spin++) {
    uint32_t expected = 0;
    if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0 &&
        __atomic_compare_exchange_n(&lock->word, &expected, 1u, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      return;
    }
    pause_cpu();
  }
  while (__atomic_exchange_n(&lock->word, 2u, __ATOMIC_ACQUIRE) != 0) prim_futex_wait(&lock->word, 2u, WAIT_NS, false);
}

void guard_lock_wake(guard_lock *lock) { prim_futex_wake(&lock->word, 1, false); }
