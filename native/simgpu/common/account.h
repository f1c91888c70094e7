/* Accounting: what this process holds on each card, and what everybody holds.
 *
 * The process's own figures are the authority; its slot publishes them, and sim_card.used_bytes sums the slots, so that
 * a charge costs the same however many processes there are.  Why the sum may be trusted:
 *
 *   - It changes under the lock only, together with the slot.  Who takes the lock from a dead owner marks the sums
 *     stale, and the next change begins by adding up the slots again; so one half of a change never survives.
 *   - It counts the dead until their slots are reaped, and therefore is never too small: a charge that fits by the sum
 *     fits.  A charge that does not is refused only after all slots have been asked whether their process lives.
 *   - A new peak is recorded only after the same question, so that it never contains a dead process's bytes.
 *   - Readers take the sum, which is right at each instant, and subtract the slots whose process is dead: those stand
 *     still.  Should a slot be reaped meanwhile (`reaps` moves), they read again.  When the sum is the process's own
 *     figure, nobody else holds anything, and no question about anyone's life can change the answer.
 *
 * A process on a MIG device is held to the bytes of its GPU instance, for which no sum is kept: there the slots are added
 * up under the lock each time.
 *
 * Liveness is asked of the kernel each time (sim_slot_owner), never remembered: between two answers that a process lives
 * it may have died, and there is nothing that a dead process could be relied on to leave behind.
 */
#ifndef SIMGPU_ACCOUNT_H
#define SIMGPU_ACCOUNT_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "store.h"

/* A process that has a slot.  Threads may share it. */
typedef struct sim_session {
  sim_store store;
  uint32_t slot;
  uint32_t lock_word;
  uint64_t identity;                             /* see engine.h */
  pthread_mutex_t engine_mutexes[SIM_MAX_CARDS]; /* of this process's threads, before an engine's own lock */
  int64_t intact_at;                  /* when the state file was last seen to have its size, by the coarse clock */
  uint32_t instance;                  /* the MIG device that the process works on, as in its slot */
  uint64_t instance_bytes;            /* its memory */
  uint64_t most_bytes;                /* of each card, for this process alone; 0: no limit */
  uint64_t used_bytes[SIM_MAX_CARDS]; /* under the lock */
  uint32_t shares[SIM_MAX_SHARES];    /* how often this process holds each; under the lock */
} sim_session;

/* Takes a slot through a store that was opened for writing. */
sim_status sim_session_begin(sim_session *session, const sim_store *store);

/* Takes and gives back the lock, with sums that are right: for changes of the state other than those below. */
sim_status sim_session_enter(sim_session *session);
void sim_session_leave(sim_session *session);

/* Whether the state file has its size, as far as known: somebody may have cut it short since it was mapped, and a page
 * without file behind it must not be touched. */
bool sim_session_intact(sim_session *session);

/* Looks for dead processes and forgets their slots, so that accounting has them. */
void sim_session_reap(sim_session *session);

/* When a process began that has that start time in its slot: microseconds of CLOCK_REALTIME. */
uint64_t sim_start_us(uint64_t start_time_ns);

/* Gives the slot back. */
void sim_session_end(sim_session *session);

/* How a slot names a MIG device of card `index`: place of its GPU instance in the card's condition, id of the compute
 * instance. */
uint32_t sim_instance_word(uint32_t index, uint32_t place, uint32_t id);

/* Whether a process that works on `instance` works on that card, GPU instance (its place) and compute instance. */
bool sim_instance_within(uint32_t instance, uint32_t index, uint32_t place, uint32_t id);

#define SIM_ALL UINT32_MAX /* for `place` and `id`: any */

/* Whether a living process works on that, or, with `place` SIM_ALL, has a context or memory on the card.  Under the
 * lock. */
bool sim_instance_busy(const sim_session *session, uint32_t index, uint32_t place, uint32_t id);

/* Charges `bytes` on the card (an index of the state file), or nothing: SIM_NO_SPACE when they do not fit. */
sim_status sim_charge(sim_session *session, uint32_t card, uint64_t bytes);

/* Charges what fits of `bytes`, and says how much that was. */
sim_status sim_charge_upto(sim_session *session, uint32_t card, uint64_t bytes, uint64_t *charged);

/* Gives back what was charged. */
void sim_discharge(sim_session *session, uint32_t card, uint64_t bytes);

/* Counts one kernel launch. */
void sim_count_launch(sim_session *session, uint32_t card);

/* Counts contexts: `change` is 1 or -1. */
void sim_count_context(sim_session *session, uint32_t card, int change);

/* Settings that `simctl set` can change while processes run. */
bool sim_driver_memory(sim_session *session, uint32_t card);
uint64_t sim_context_overhead(sim_session *session, uint32_t card);

/* What living processes hold now on the card, or on the GPU instance that this process works on. */
sim_status sim_used(sim_session *session, uint32_t card, uint64_t *used_bytes);

/* One living process's use of one card. */
typedef struct sim_process {
  pid_t pid; /* as the caller's pid namespace has it, else as the process itself has it */
  char command[20];
  uint64_t identity;      /* see engine.h */
  uint32_t instance;      /* see sim_instance_word; 0: whole cards */
  uint64_t start_time_ns; /* CLOCK_BOOTTIME */
  sim_slot_card use;
} sim_process;

/* Everybody's use of one card, or with `only` of one of its GPU instances; `processes` may be NULL. */
typedef struct sim_usage {
  bool
      visible_only; /* as NVML: list only processes that the caller's pid namespace has, or all by ids of another one */
  uint32_t only;    /* an instance word whose GPU instance counts; 0: everything on the card */
  uint64_t used_bytes;
  uint64_t peak_bytes;
  uint32_t process_count;
  sim_process *processes; /* those with a context or memory on the card; SIM_MAX_SLOTS entries of the caller */
} sim_usage;

/* Reads without a slot and without a mapping.  The sum is that of one instant, also while processes allocate without
 * pause; the processes' own figures are of the same instant if one could be caught between two changes. */
sim_status sim_usage_read(const sim_store *store, uint32_t card, sim_usage *usage);

#endif
