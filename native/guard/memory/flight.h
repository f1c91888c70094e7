/* Calls under way that change what the driver holds for this process.
 *
 * Between such a call's charge and the driver's answer nobody can say which of the two figures has it.  Whoever compares them asks
 * before and after whether a call was under way, or began meanwhile. */
#ifndef GUARD_FLIGHT_H
#define GUARD_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

/* Low half: calls under way; high half: calls begun. */
extern uint64_t flight_word __attribute__((visibility("hidden")));
/* Those of this thread. */
extern _Thread_local uint32_t flight_own __attribute__((visibility("hidden"), tls_model("initial-exec")));

static inline bool flight_begin(void) {
  flight_own++;
  __atomic_fetch_add(&flight_word, ((uint64_t)1 << 32) + 1, __ATOMIC_SEQ_CST);
  return true;
}

static inline void flight_end(const bool *begun) {
  (void)begun;
  flight_own--;
  __atomic_fetch_sub(&flight_word, 1, __ATOMIC_SEQ_CST);
}

/* From here to the end of the block a call is under way. */
#define FLIGHT __attribute__((cleanup(flight_end), unused)) const bool flight_begun = flight_begin()

static inline uint64_t flight_look(void) { return __atomic_load_n(&flight_word, __ATOMIC_SEQ_CST); }
static inline uint32_t flight_begun_of(uint64_t word) { return (uint32_t)(word >> 32); }
/* True when no other thread's call was under way at that look. */
static inline bool flight_is_quiet(uint64_t word) { return (uint32_t)word == flight_own; }

#endif
