/* Faults on command: what is wrong with cards and with the driver, and the events that tell of it.
 *
 * An error of an application sticks to its slot: sim_fault_of says it until the process ends, as CUDA's sticky errors do.
 * Events go into a ring of the node; readers keep a number of their own and sleep on the ring's.
 */
#ifndef SIMGPU_FAULTS_H
#define SIMGPU_FAULTS_H

#include <sys/types.h>

#include "account.h"

#define SIM_NO_INSTANCE UINT32_MAX

/* Puts an event into the ring and wakes who waits.  Under the lock. */
void sim_event_post(sim_session *session, uint32_t card, uint64_t type, uint64_t data, uint32_t instance);

/* Event `number` of the node, if the ring still or already has it. */
bool sim_event_read(const sim_store *store, uint64_t number, sim_event *event);

/* Number of the next event. */
uint64_t sim_event_next(const sim_store *store);

/* Sleeps until the ring has moved on from `number`, or for the time; `map` is a shared mapping of the state file. */
void sim_event_sleep(const sim_state *map, uint64_t number, uint64_t nanoseconds);

/* An XID: posts its event, and makes the error that applications see stick to the processes that use the card, or to
 * `pid` alone if that is not 0.  Returns how many processes that were. */
uint32_t sim_fault_xid(sim_session *session, uint32_t card, uint32_t xid, pid_t pid);

/* Whether a card is there, from now on; a card that is lost takes its processes with it. */
void sim_fault_presence(sim_session *session, uint32_t card, uint32_t presence);

/* The CUresult that sticks to this process on the card; 0 for none. */
static inline uint32_t sim_fault_of(const sim_session *session, uint32_t card) {
  return __atomic_load_n(&session->store.map->slots[session->slot].faults[card], __ATOMIC_RELAXED);
}

/* What is wrong with the card: a copy, all zero when that cannot be read. */
sim_faults sim_faults_read(const sim_store *store, uint32_t card);

/* Whether the driver is loaded and fits the libraries; a copy as above. */
sim_driver_state sim_driver_read(const sim_store *store);

#endif
