/* Time on a card: a discrete-event simulation that nobody runs, but everybody who wants to know advances to the present.
 *
 * Processes take turns, a time slice each, as long as they have kernels to run; the streams of the process whose turn it
 * is run at once as far as their kernels' occupancies fit on the card, in the order of priority and submission.  All
 * times are those of the simulation: exact, whatever the host's scheduler does.
 *
 * Everything here works on an engine that the caller may change: under its lock (engine_use.h), or a copy (engine_read.h).
 */
#ifndef SIMGPU_ENGINE_H
#define SIMGPU_ENGINE_H

#include <stdbool.h>

#include "store.h"

#define SIM_TIME_SLICE_NS UINT64_C(2000000)
#define SIM_LEAST_TIME_SLICE_NS UINT64_C(100000)
#define SIM_FULL_OCCUPANCY 1000u

/* Whose channels and times: a process, by its slot and its ticket. */
static inline uint64_t sim_identity(uint32_t slot, uint32_t ticket) { return (uint64_t)ticket << 32 | (slot + 1); }

/* The slot of an identity; SIM_MAX_SLOTS or more if it is none. */
static inline uint32_t sim_identity_slot(uint64_t identity) { return (uint32_t)identity - 1; }

/* Some items of a channel: the first `sequence` of its present use. */
typedef struct sim_ticket {
  uint64_t target; /* as in sim_item */
  uint64_t sequence;
} sim_ticket;

/* CLOCK_MONOTONIC. */
uint64_t sim_clock_ns(void);

/* Lets everything happen that happens until `time_ns`.  `store` tells which owners of channels still live. */
void sim_engine_advance(sim_engine *engine, const sim_store *store, uint64_t time_ns);

/* Finishes the step in which an owner of the lock died, if one did. */
void sim_engine_recover(sim_engine *engine);

/* Whether the items of a ticket are done. */
bool sim_engine_done(const sim_engine *engine, sim_ticket ticket);

/* How long at least, from now on, until they are: 0 if that cannot be said, as behind work of the host. */
uint64_t sim_engine_least_wait(const sim_engine *engine, sim_ticket ticket);

/* Whether the process with this identity lives. */
bool sim_identity_lives(const sim_store *store, uint64_t identity);

#endif
