/* Instance words: how a slot names the MIG device that its process works on; see sim_instance_word. */
#ifndef SIMGPU_INSTANCE_WORD_H
#define SIMGPU_INSTANCE_WORD_H

#include <stdint.h>

/* The word of a device's GPU instance, without its compute instance: equal for processes that share memory. */
static inline uint32_t sim_instance_parent(uint32_t word) { return word & ~0xffu; }

/* The place of its GPU instance in the card's condition. */
static inline uint32_t sim_instance_place(uint32_t word) { return word >> 8 & 0x7; }

#endif
