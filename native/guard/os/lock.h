/* A lock between the threads of one process: a word, no initialisation beyond zero, so that it works before constructors ran and
 * is made free again by storing zero in a forked child.  It is never held across a call of the driver or of the dynamic linker,
 * but for the turn of graphs that allocate (graph.c). */
#ifndef GUARD_LOCK_H
#define GUARD_LOCK_H

#include <stdint.h>

typedef struct guard_lock {
  uint32_t word; /* 0 free, 1 taken, 2 taken and somebody waits */
} guard_lock;

void guard_lock_wait(guard_lock *lock);
void guard_lock_wake(guard_lock *lock);

static inline void guard_lock_take(guard_lock *lock) {
  uint32_t expected = 0;
  if (!__atomic_compare_exchange_n(&lock->word, &expected, 1u, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
    guard_lock_wait(lock);
}

static inline void guard_lock_drop(guard_lock *lock) {
  if (__atomic_exchange_n(&lock->word, 0u, __ATOMIC_RELEASE) == 2u) guard_lock_wake(lock);
}

static inline void guard_lock_cleanup(guard_lock **lock) { guard_lock_drop(*lock); }

/* Holds the lock until the end of the enclosing block. */
#define GUARD_HOLD(lock) \
  guard_lock_take(lock); \
  __attribute__((cleanup(guard_lock_cleanup), unused)) guard_lock *guard_held_lock = (lock)

#endif
