/* Memory that several processes hold.
 *
 * What a process exports to others outlives it: the memory is there, and counts, until the last of its holders lets go
 * or dies.  So it leaves the exporter's slot and becomes an entry of its own in the state file, with a bit for each
 * process that holds it.  The card's sum contains it once; where it must be put down to a process, that is its owner,
 * and after the owner any other holder.
 */
#ifndef SIMGPU_SHARE_H
#define SIMGPU_SHARE_H

#include "account.h"

/* How processes name a share to each other. */
typedef struct sim_share_name {
  uint32_t index;
  uint32_t ticket;
} sim_share_name;

#define SIM_NO_SHARE ((sim_share_name){.index = SIM_MAX_SHARES})

/* Makes `bytes` that this process is charged for on the card a share, which it holds; SIM_BUSY when there are too many. */
sim_status sim_share_make(sim_session *session, uint32_t card, uint64_t bytes, sim_share_name *name);

/* Holds a share of another process, or holds it once more; SIM_INVALID when it is no more. */
sim_status sim_share_hold(sim_session *session, sim_share_name name);

/* Lets go of it once. */
void sim_share_drop(sim_session *session, sim_share_name name);

/* ---- for the accounts -------------------------------------------------------------------------------------------- */

/* Sum of the card's shares; under the lock. */
uint64_t share_sum(const sim_state *state, uint32_t card);

/* Sum of those whose holders all are dead. */
uint64_t share_sum_of_dead(const sim_store *store, uint32_t card);

/* Takes a dead process off all shares; under the lock. */
void share_forget_slot(sim_state *state, uint32_t slot);

/* The slot of the living process that a share is put down to; SIM_MAX_SLOTS if there is none. */
uint32_t share_payer(const sim_store *store, const sim_shared *share);

#endif
