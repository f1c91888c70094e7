/* The lock of the state file, and who owns a slot.
 *
 * The lock word is 0 when free; else the owner's slot + 1 (11 bits), the owner's ticket (20 bits) and, in bit 31,
 * whether others sleep on it.  Threads of one process exclude each other like processes do.  An owner that died is
 * noticed by its slot's record lock being gone, and the lock is taken from it: what it may have left half done are
 * sums of the slots, which the thief marks stale (see account.c).  The ticket tells a dead owner from the living
 * process that has since taken its slot.  Who has no slot yet takes the lock by a byte behind the slots' (SIM_ARRIVALS), which
 * it has for the time being.
 */
#ifndef SIMGPU_LOCK_H
#define SIMGPU_LOCK_H

#include <stdbool.h>
#include <sys/types.h>

#include "store.h"

#define SIM_LOCK_SLOT_MASK 0x7ffu
#define SIM_ARRIVALS SIM_MAX_SLOTS /* the first byte of those who come, up to SIM_LOCK_SLOT_MASK */
#define SIM_LOCK_WAITERS 0x80000000u

/* The lock word of the process with `slot` and `ticket`. */
uint32_t sim_lock_word(uint32_t slot, uint32_t ticket);

/* Takes any such lock word of the store and makes its sequence odd.  `stolen`: its owner died at work. */
sim_status sim_lock_take(const sim_store *store, uint32_t *lock, uint32_t *sequence, uint32_t word, bool *stolen);

/* Makes the sequence even and gives that lock back. */
void sim_lock_give(uint32_t *lock, uint32_t *sequence);

/* Whether a living process holds the lock that reads `seen`. */
bool sim_lock_held(const sim_store *store, uint32_t seen);

/* Takes the lock of the slots as `word` and makes the sequence odd; SIM_BUSY after several seconds. */
sim_status sim_lock(const sim_store *store, uint32_t word);

/* Makes the sequence even and gives the lock back. */
void sim_unlock(const sim_store *store);

/* Takes the record lock of a slot; false if another process has it. */
bool sim_slot_claim(int fd, uint32_t slot);

/* Gives it back. */
void sim_slot_release(int fd, uint32_t slot);

/* Whether a living process, this one included, owns the slot; its pid as the caller's pid namespace has it in
 * `pid` (0 when it has none). */
bool sim_slot_owner(int fd, uint32_t slot, pid_t *pid);

#endif
