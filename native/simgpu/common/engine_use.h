/* The engine of a card as a process with a session uses it. */
#ifndef SIMGPU_ENGINE_USE_H
#define SIMGPU_ENGINE_USE_H

#include "account.h"
#include "engine.h"

/* Takes the lock of the card's engine and advances it to the present.  NULL in `engine`, with the status why, if that
 * cannot be. */
sim_status sim_engine_enter(sim_session *session, uint32_t card, sim_engine **engine);

void sim_engine_leave(sim_session *session, uint32_t card);

/* Takes a channel for this process; SIM_NO_SPACE when all are taken. */
sim_status sim_channel_take(sim_session *session, sim_engine *engine, uint32_t priority, uint64_t *target);

/* Gives back a channel that has nothing to do. */
void sim_channel_give(sim_engine *engine, uint64_t target);

static inline sim_channel *sim_channel_of(sim_engine *engine, uint64_t target) {
  return &engine->channels[(target & 0xffffu) % SIM_MAX_CHANNELS];
}

static inline sim_item *sim_item_of(sim_engine *engine, uint64_t target, uint64_t sequence) {
  return &engine->rings[(target & 0xffffu) % SIM_MAX_CHANNELS][sequence % SIM_RING_ITEMS];
}

/* Items that the channel has room for. */
static inline uint64_t sim_channel_room(sim_engine *engine, uint64_t target) {
  const sim_channel *channel = sim_channel_of(engine, target);
  return SIM_RING_ITEMS - (channel->submitted - channel->done);
}

/* Adds an item to a channel with room. */
void sim_channel_put(sim_engine *engine, uint64_t target, const sim_item *item);

/* Lets the channel go on behind the host's item at `sequence`. */
void sim_channel_release(sim_engine *engine, uint64_t target, uint64_t sequence);

/* What the table of the node says of the kernel with this name: ns, or 0.  `version` changes when the table does. */
uint64_t sim_kernel_duration(const sim_session *session, const char *name);
uint32_t sim_kernel_version(const sim_session *session);

#endif
