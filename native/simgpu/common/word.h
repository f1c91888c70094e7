/* How words of the state file are read and changed, by whoever holds the lock and by those who do not. */
#ifndef SIMGPU_WORD_H
#define SIMGPU_WORD_H

#include <stdbool.h>

#include "state.h"

static inline uint64_t sim_add(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

static inline uint64_t sim_subtract(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* Readers without lock rely on the order: a figure is stored after the marks that say it may be wrong, and read before. */
static inline uint64_t sim_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static inline void sim_store_word(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

static inline uint32_t sim_slots_in_use(const sim_header *header) {
  uint32_t high = __atomic_load_n(&header->slot_high, __ATOMIC_RELAXED);
  return high <= SIM_MAX_SLOTS ? high : SIM_MAX_SLOTS;
}

static inline bool sim_slot_in_use(const sim_slot *slot) {
  return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != 0;
}

/* While `reaps` is odd, slots and shares of the dead do not fit the sums. */
static inline void sim_begin_reaping(sim_header *header) { __atomic_fetch_or(&header->reaps, 1u, __ATOMIC_SEQ_CST); }

static inline void sim_end_reaping(sim_header *header) { __atomic_fetch_add(&header->reaps, 1u, __ATOMIC_SEQ_CST); }

#endif
