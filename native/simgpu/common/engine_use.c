#include "engine_use.h"

#include <string.h>

#include "engine_log.h"
#include "lock.h"

static sim_engine *engine_of(const sim_session *session, uint32_t card) {
  return &session->store.map->engines[card % SIM_MAX_CARDS];
}

/* Gives the slot's account on this card to the session; what its former owner used is remembered.  Each step leaves
 * an account that the next owner takes over in the same way. */
static void take_account(const sim_session *session, sim_engine *engine) {
  sim_engine_process *process = &engine->processes[session->slot];
  sim_step step = {.engine = engine};
  sim_step_set(&step, &engine->retired_gpu_time_ns, engine->retired_gpu_time_ns + process->gpu_time_ns);
  sim_step_set(&step, &process->gpu_time_ns, 0);
  sim_step_set(&step, &process->identity, 0);
  if (engine->process_high <= session->slot) sim_step_set(&step, &engine->process_high, session->slot + 1);
  sim_step_commit(&step);
  memset(engine->histories[session->slot], 0, sizeof engine->histories[session->slot]);
  __atomic_store_n(&process->identity, session->identity, __ATOMIC_RELEASE);
}

sim_status sim_engine_enter(sim_session *session, uint32_t card, sim_engine **engine) {
  *engine = NULL;
  pthread_mutex_lock(&session->engine_mutexes[card % SIM_MAX_CARDS]);
  sim_engine *found = engine_of(session, card);
  bool stolen; /* whether its owner finished makes no difference, see sim_engine_recover */
  sim_status status = sim_session_intact(session)
                          ? sim_lock_take(&session->store, &found->lock, &found->sequence, session->lock_word, &stolen)
                          : SIM_INVALID;
  if (status != SIM_OK) {
    pthread_mutex_unlock(&session->engine_mutexes[card % SIM_MAX_CARDS]);
    return status;
  }
  sim_engine_recover(found);
  sim_engine_advance(found, &session->store, sim_clock_ns());
  if (found->processes[session->slot].identity != session->identity) take_account(session, found);
  *engine = found;
  return SIM_OK;
}

void sim_engine_leave(sim_session *session, uint32_t card) {
  sim_engine *engine = engine_of(session, card);
  sim_lock_give(&engine->lock, &engine->sequence);
  pthread_mutex_unlock(&session->engine_mutexes[card % SIM_MAX_CARDS]);
}

sim_status sim_channel_take(sim_session *session, sim_engine *engine, uint32_t priority, uint64_t *target) {
  uint32_t index = 0;
  while (index < SIM_MAX_CHANNELS && engine->channels[index].owner != 0) index++;
  if (index == SIM_MAX_CHANNELS) return SIM_NO_SPACE;
  sim_channel *channel = &engine->channels[index];
  uint64_t incarnation = engine->incarnation + 1;
  if (engine->channel_high <= index) engine->channel_high = index + 1;
  sim_step step = {.engine = engine};
  sim_step_set(&step, &engine->incarnation, incarnation);
  sim_step_set(&step, &channel->owner, session->identity);
  sim_step_set(&step, &channel->incarnation, incarnation);
  sim_step_set(&step, &channel->submitted, 0);
  sim_step_set(&step, &channel->done, 0);
  sim_step_set(&step, &channel->running_until, 0);
  sim_step_set(&step, &channel->released, 0);
  sim_step_set(&step, &channel->priority, priority);
  sim_step_commit(&step);
  *target = incarnation << 16 | index;
  return SIM_OK;
}

void sim_channel_give(sim_engine *engine, uint64_t target) {
  sim_channel *channel = sim_channel_of(engine, target);
  sim_step step = {.engine = engine};
  sim_step_set(&step, &channel->owner, 0);
  sim_step_set(&step, &channel->incarnation, 0);
  sim_step_commit(&step);
}

void sim_channel_put(sim_engine *engine, uint64_t target, const sim_item *item) {
  sim_channel *channel = sim_channel_of(engine, target);
  uint64_t index = (target & 0xffffu) % SIM_MAX_CHANNELS;
  sim_item *place = sim_item_of(engine, target, channel->submitted);
  *place = *item;
  place->stamp = engine->stamp++;
  __atomic_store_n(&channel->submitted, channel->submitted + 1, __ATOMIC_RELEASE);
  /* Whoever dies between these two leaves a channel that nobody has any more. */
  __atomic_store_n(&engine->active[index / 64], engine->active[index / 64] | UINT64_C(1) << index % 64,
                   __ATOMIC_RELEASE);
}

void sim_channel_release(sim_engine *engine, uint64_t target, uint64_t sequence) {
  __atomic_store_n(&sim_channel_of(engine, target)->released, sequence + 1, __ATOMIC_RELEASE);
}

uint32_t sim_kernel_version(const sim_session *session) {
  return __atomic_load_n(&session->store.map->kernels.version, __ATOMIC_ACQUIRE);
}

uint64_t sim_kernel_duration(const sim_session *session, const char *name) {
  const sim_kernel_table *table = &session->store.map->kernels;
  uint32_t count = __atomic_load_n(&table->count, __ATOMIC_ACQUIRE);
  for (uint32_t i = 0; i < count && i < SIM_MAX_KERNELS; i++)
    if (strncmp(table->kernels[i].name, name, sizeof table->kernels[i].name) == 0)
      return __atomic_load_n(&table->kernels[i].duration_ns, __ATOMIC_RELAXED);
  return 0;
}
