/* Accounting: what this process holds on each card, and what everybody holds.
 *
 * The process's own figures are the authority; its slot publishes them.  Each change of a slot is one 64-bit store
 * under the lock, so that death at any point leaves the state file right.
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
  pthread_mutex_t mutex;
  uint64_t used_bytes[SIM_MAX_CARDS];
} sim_session;

/* Takes a slot through a store that was opened for writing. */
sim_status sim_session_begin(sim_session *session, const sim_store *store);

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

/* A setting that `simctl set` can change while processes run. */
uint64_t sim_context_overhead(const sim_session *session, uint32_t card);

/* One living process's use of one card. */
typedef struct sim_process {
  pid_t pid; /* as the caller's pid namespace has it, else as the process itself has it */
  char command[20];
  sim_slot_card use;
} sim_process;

/* Everybody's use of one card; `processes` may be NULL. */
typedef struct sim_usage {
  uint64_t used_bytes;
  uint64_t peak_bytes;
  uint32_t process_count;
  sim_process *processes; /* those with a context or memory on the card; SIM_MAX_SLOTS entries of the caller */
} sim_usage;

/* Sums the slots of living processes, as they were at one instant. */
sim_status sim_usage_read(const sim_store *store, uint32_t card, sim_usage *usage);

#endif
