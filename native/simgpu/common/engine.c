#include "engine.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine_log.h"
#include "lock.h"

/* A clock that runs this far ahead of its engine has not been looked at for long; one that runs behind it by more than
 * a moment is another boot's. */
#define MOST_CATCH_UP_NS UINT64_C(3600000000000)
#define MOST_BEHIND_NS UINT64_C(1000000000)
#define LOOK_FOR_DEAD_NS UINT64_C(1000000)
#define NO_PROCESS UINT32_MAX

/* A channel with something to do, and what its first item is. */
typedef struct live {
  sim_channel *channel;
  sim_item *ring;
  uint32_t index;
  uint32_t process; /* slot */
} live;

typedef struct view {
  sim_engine *engine;
  uint32_t count;
  uint32_t mps;
  uint64_t time_slice_ns;
  live channels[SIM_MAX_CHANNELS];
} view;

uint64_t sim_clock_ns(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void sim_engine_recover(sim_engine *engine) {
  uint64_t count = __atomic_load_n(&engine->log_count, __ATOMIC_ACQUIRE);
  for (uint64_t i = 0; i < count && i < SIM_LOG_WORDS; i++) {
    uint64_t offset = engine->log[i].offset;
    if (offset % sizeof(uint64_t) == 0 && offset <= sizeof *engine - sizeof(uint64_t))
      __atomic_store_n((uint64_t *)((char *)engine + offset), engine->log[i].value, __ATOMIC_RELEASE);
  }
  __atomic_store_n(&engine->log_count, 0, __ATOMIC_RELEASE);
}

static sim_item *item_at(const live *of, uint64_t sequence) { return &of->ring[sequence % SIM_RING_ITEMS]; }

static bool empty(const sim_channel *channel) { return channel->submitted - channel->done - 1 >= SIM_RING_ITEMS; }

/* The kernel at the head of a channel, or NULL: other items have been settled, or wait. */
static const sim_item *head_kernel(const live *of) {
  if (empty(of->channel)) return NULL;
  const sim_item *item = item_at(of, of->channel->done);
  return item->kind == SIM_ITEM_KERNEL ? item : NULL;
}

/* ---- which channels ---------------------------------------------------------------------------------------------- */

static void look(view *into, sim_engine *engine) {
  into->engine = engine;
  into->count = 0;
  into->mps = engine->mps != 0;
  into->time_slice_ns = engine->time_slice_ns == 0                        ? SIM_TIME_SLICE_NS
                        : engine->time_slice_ns < SIM_LEAST_TIME_SLICE_NS ? SIM_LEAST_TIME_SLICE_NS
                                                                          : engine->time_slice_ns;
  for (uint32_t word = 0; word < SIM_MAX_CHANNELS / 64; word++) {
    for (uint64_t bits = engine->active[word]; bits != 0; bits &= bits - 1) {
      uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
      sim_channel *channel = &engine->channels[index];
      uint32_t slot = sim_identity_slot(channel->owner);
      if (slot >= SIM_MAX_SLOTS || engine->processes[slot].identity != channel->owner || empty(channel)) continue;
      into->channels[into->count++] =
          (live){.channel = channel, .ring = engine->rings[index], .index = index, .process = slot};
    }
  }
}

bool sim_identity_lives(const sim_store *store, uint64_t identity) {
  uint32_t slot = sim_identity_slot(identity);
  uint32_t ticket = 0;
  if (slot >= SIM_MAX_SLOTS || !sim_slot_owner(store->fd, slot, NULL)) return false;
  long offset = (long)(offsetof(sim_state, slots) + slot * sizeof(sim_slot) + offsetof(sim_slot, ticket));
  return pread(store->fd, &ticket, sizeof ticket, offset) == (ssize_t)sizeof ticket && ticket == identity >> 32;
}

/* Drops the channels of processes that died, at the time up to which the engine has come. */
static void drop_dead(sim_engine *engine, const sim_store *store) {
  uint64_t alive[SIM_MAX_SLOTS / 64] = {0}; /* of those whom the engine knows by their identity */
  for (uint32_t i = 0; i < SIM_MAX_CHANNELS && i < engine->channel_high; i++) {
    sim_channel *channel = &engine->channels[i];
    if (channel->owner == 0) continue;
    uint32_t slot = sim_identity_slot(channel->owner);
    bool known = slot < SIM_MAX_SLOTS && engine->processes[slot].identity == channel->owner;
    if (known && (alive[slot / 64] >> slot % 64 & 1) != 0) continue;
    if (known && sim_identity_lives(store, channel->owner)) {
      alive[slot / 64] |= UINT64_C(1) << slot % 64;
      continue;
    }
    sim_step step = {.engine = engine};
    sim_step_set(&step, &channel->owner, 0);
    sim_step_set(&step, &channel->incarnation, 0);
    sim_step_set(&step, &channel->running_until, 0);
    sim_step_set(&step, &engine->active[i / 64], engine->active[i / 64] & ~(UINT64_C(1) << i % 64));
    sim_step_commit(&step);
  }
}

/* ---- what takes no time ------------------------------------------------------------------------------------------ */

static bool target_done(const sim_engine *engine, uint64_t target, uint64_t sequence) {
  uint64_t index = target & 0xffffu;
  if (index >= SIM_MAX_CHANNELS) return true;
  const sim_channel *channel = &engine->channels[index];
  return channel->incarnation != target >> 16 || channel->done >= sequence;
}

bool sim_engine_done(const sim_engine *engine, sim_ticket ticket) {
  return target_done(engine, ticket.target, ticket.sequence);
}

static void pop(sim_engine *engine, const live *of) {
  sim_channel *channel = of->channel;
  sim_item *item = item_at(of, channel->done);
  sim_step step = {.engine = engine};
  if (item->kind == SIM_ITEM_MARK) sim_step_set(&step, &item->value, engine->now_ns);
  sim_step_set(&step, &channel->done, channel->done + 1);
  sim_step_set(&step, &channel->running_until, 0);
  if (channel->done + 1 == channel->submitted) {
    uint64_t *active = &engine->active[of->index / 64];
    sim_step_set(&step, active, *active & ~(UINT64_C(1) << of->index % 64));
  }
  sim_step_commit(&step);
}

/* Whether the first item is over as things stand. */
static bool over(const sim_engine *engine, const live *of) {
  const sim_channel *channel = of->channel;
  const sim_item *item = item_at(of, channel->done);
  switch (item->kind) {
    case SIM_ITEM_KERNEL:
      return item->value == 0 ||
             (channel->running_until != 0 && channel->running_until <= engine->processes[of->process].gpu_time_ns);
    case SIM_ITEM_WAIT: return target_done(engine, item->target, item->value);
    case SIM_ITEM_HOST: return channel->released > channel->done;
    default: return true;
  }
}

/* Takes away what is over, until nothing is: the end of one may be what another waits for. */
static void settle(view *of) {
  for (bool changed = true; changed;) {
    changed = false;
    for (uint32_t i = 0; i < of->count;) {
      const live *here = &of->channels[i];
      while (!empty(here->channel) && over(of->engine, here)) {
        pop(of->engine, here);
        changed = true;
      }
      if (empty(here->channel))
        of->channels[i] = of->channels[--of->count];
      else
        i++;
    }
  }
}

/* ---- whose turn -------------------------------------------------------------------------------------------------- */

/* Which process runs now; NO_PROCESS when nobody has a kernel.  `alone`: nobody else has. */
static uint32_t take_turn(const view *of, bool *alone) {
  sim_engine *engine = of->engine;
  uint32_t present = NO_PROCESS, next = NO_PROCESS, first = NO_PROCESS;
  *alone = true;
  for (uint32_t i = 0; i < of->count; i++) {
    uint32_t process = of->channels[i].process;
    if (head_kernel(&of->channels[i]) == NULL) continue;
    if (first != NO_PROCESS && process != first) *alone = false;
    if (process == engine->turn) present = process;
    if (process > engine->turn && process < next) next = process;
    if (process < first) first = process;
  }
  if (first == NO_PROCESS || (present != NO_PROCESS && (engine->turn_left_ns > 0 || of->mps != 0))) return present;
  uint32_t chosen = next != NO_PROCESS ? next : first;
  sim_step step = {.engine = engine};
  sim_step_set(&step, &engine->turn, chosen);
  sim_step_set(&step, &engine->turn_left_ns, of->time_slice_ns);
  sim_step_commit(&step);
  return chosen;
}

static bool takes_part(const view *of, const live *channel, uint32_t turn) {
  return of->mps != 0 || channel->process == turn;
}

static bool sooner(const live *a, const live *b) {
  if (a->channel->priority != b->channel->priority) return a->channel->priority < b->channel->priority;
  return item_at(a, a->channel->done)->stamp < item_at(b, b->channel->done)->stamp;
}

/* Begins the kernels that have room, in their order: one that has none holds up those behind it. */
static void begin_kernels(const view *of, uint32_t turn) {
  uint32_t taken = 0;
  for (uint32_t i = 0; i < of->count; i++)
    if (of->channels[i].channel->running_until != 0 && takes_part(of, &of->channels[i], turn))
      taken += item_at(&of->channels[i], of->channels[i].channel->done)->occupancy;
  for (;;) {
    const live *best = NULL;
    for (uint32_t i = 0; i < of->count; i++) {
      const live *here = &of->channels[i];
      if (here->channel->running_until != 0 || !takes_part(of, here, turn) || head_kernel(here) == NULL) continue;
      if (best == NULL || sooner(here, best)) best = here;
    }
    if (best == NULL) return;
    const sim_item *kernel = head_kernel(best);
    if (taken > 0 && taken + kernel->occupancy > SIM_FULL_OCCUPANCY) return;
    taken += kernel->occupancy;
    sim_step step = {.engine = of->engine};
    sim_step_set(&step, &best->channel->running_until,
                 of->engine->processes[best->process].gpu_time_ns + kernel->value);
    sim_step_commit(&step);
  }
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

static void add_history(sim_step *step, sim_history history, uint64_t now_ns, uint64_t ns) {
  uint64_t period = now_ns / SIM_PERIOD_NS;
  uint64_t *word = &history[period % SIM_PERIODS];
  uint64_t before = *word >> 32 == (uint32_t)period ? *word & UINT32_MAX : 0;
  sim_step_set(step, word, period << 32 | (before + ns));
}

/* Until the first kernel ends, but not beyond `most_ns`. */
static uint64_t until_next(const view *of, uint32_t turn, uint64_t most_ns) {
  for (uint32_t i = 0; i < of->count; i++) {
    const live *here = &of->channels[i];
    if (here->channel->running_until == 0 || !takes_part(of, here, turn)) continue;
    uint64_t left = here->channel->running_until - of->engine->processes[here->process].gpu_time_ns;
    if (left < most_ns) most_ns = left;
  }
  return most_ns;
}

/* Lets `ns` pass, in which nothing begins or ends. */
static void pass(const view *of, uint32_t turn, uint64_t ns) {
  sim_engine *engine = of->engine;
  sim_step step = {.engine = engine};
  uint64_t counted[SIM_MAX_SLOTS / 64] = {0};
  for (uint32_t i = 0; i < of->count; i++) {
    const live *here = &of->channels[i];
    uint64_t bit = UINT64_C(1) << here->process % 64;
    if (here->channel->running_until == 0 || !takes_part(of, here, turn)) continue;
    if ((counted[here->process / 64] & bit) != 0) continue;
    counted[here->process / 64] |= bit;
    uint64_t *gpu_time = &engine->processes[here->process].gpu_time_ns;
    sim_step_set(&step, gpu_time, *gpu_time + ns);
    add_history(&step, engine->histories[here->process], engine->now_ns, ns);
  }
  add_history(&step, engine->history, engine->now_ns, ns);
  sim_step_set(&step, &engine->busy_ns, engine->busy_ns + ns);
  sim_step_set(&step, &engine->turn_left_ns, engine->turn_left_ns > ns ? engine->turn_left_ns - ns : 0);
  sim_step_set(&step, &engine->now_ns, engine->now_ns + ns);
  sim_step_commit(&step);
}

static void idle_until(sim_engine *engine, uint64_t time_ns) {
  __atomic_store_n(&engine->now_ns, time_ns, __ATOMIC_RELEASE);
}

void sim_engine_advance(sim_engine *engine, const sim_store *store, uint64_t time_ns) {
  if (engine->now_ns >= time_ns) {
    if (engine->now_ns - time_ns > MOST_BEHIND_NS) idle_until(engine, time_ns);
    return;
  }
  if (time_ns - engine->now_ns > MOST_CATCH_UP_NS) idle_until(engine, time_ns - MOST_CATCH_UP_NS);
  if (time_ns - engine->looked_for_dead_ns > LOOK_FOR_DEAD_NS) {
    drop_dead(engine, store);
    engine->looked_for_dead_ns = time_ns;
  }
  view now;
  look(&now, engine);
  for (;;) {
    settle(&now);
    bool alone;
    uint32_t turn = take_turn(&now, &alone);
    if (turn == NO_PROCESS) idle_until(engine, time_ns);
    if (engine->now_ns >= time_ns) return;
    begin_kernels(&now, turn);
    uint64_t most = time_ns - engine->now_ns;
    uint64_t period_left = SIM_PERIOD_NS - engine->now_ns % SIM_PERIOD_NS;
    if (period_left < most) most = period_left;
    if (!alone && now.mps == 0 && engine->turn_left_ns < most) most = engine->turn_left_ns;
    pass(&now, turn, until_next(&now, turn, most));
  }
}

/* ---- how long ---------------------------------------------------------------------------------------------------- */

#define MOST_DEPTH 8u

static uint64_t least_work(const sim_engine *engine, sim_ticket ticket, unsigned depth) {
  uint64_t index = ticket.target & 0xffffu;
  if (depth > MOST_DEPTH || target_done(engine, ticket.target, ticket.sequence)) return 0;
  const sim_channel *channel = &engine->channels[index];
  uint32_t slot = sim_identity_slot(channel->owner);
  uint64_t least = 0;
  for (uint64_t i = channel->done; i < ticket.sequence && i - channel->done < SIM_RING_ITEMS; i++) {
    const sim_item *item = &engine->rings[index][i % SIM_RING_ITEMS];
    if (item->kind == SIM_ITEM_KERNEL) {
      bool running = i == channel->done && channel->running_until != 0 && slot < SIM_MAX_SLOTS;
      least += running ? channel->running_until - engine->processes[slot].gpu_time_ns : item->value;
    } else if (item->kind == SIM_ITEM_WAIT) {
      uint64_t other = least_work(engine, (sim_ticket){.target = item->target, .sequence = item->value}, depth + 1);
      if (other > least) least = other;
    }
  }
  return least;
}

/* How long the process whose turn it is keeps it, when that is another than `slot`. */
static uint64_t others_turn(const sim_engine *engine, uint32_t slot) {
  uint64_t longest = 0;
  if (engine->mps != 0 || engine->turn == slot || engine->turn >= SIM_MAX_SLOTS) return 0;
  for (uint32_t word = 0; word < SIM_MAX_CHANNELS / 64; word++) {
    for (uint64_t bits = engine->active[word]; bits != 0; bits &= bits - 1) {
      const sim_channel *channel = &engine->channels[word * 64 + (uint32_t)__builtin_ctzll(bits)];
      if (sim_identity_slot(channel->owner) != engine->turn || channel->running_until == 0) continue;
      uint64_t left = channel->running_until - engine->processes[engine->turn].gpu_time_ns;
      if (left > longest) longest = left;
    }
  }
  return longest < engine->turn_left_ns ? longest : engine->turn_left_ns;
}

uint64_t sim_engine_least_wait(const sim_engine *engine, sim_ticket ticket) {
  uint64_t work = least_work(engine, ticket, 0);
  if (work == 0) return 0;
  uint64_t index = ticket.target & 0xffffu;
  return work + others_turn(engine, sim_identity_slot(engine->channels[index].owner));
}
