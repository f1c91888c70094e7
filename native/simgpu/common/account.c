#include "account.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "instance_word.h"
#include "lock.h"
#include "share.h"
#include "word.h"

#define INTACT_NS 4000000 /* how long the size of the state file is believed */

static sim_slot *own_slot(const sim_session *session) { return &session->store.map->slots[session->slot]; }

/* ---- sums; all of it under the lock ------------------------------------------------------------------------------ */

static uint64_t boot_ns(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t sim_start_us(uint64_t start_time_ns) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t present = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
  return sim_subtract(present, sim_subtract(boot_ns(), start_time_ns) / 1000u);
}

/* Keeps what accounting tells of the dead. */
static void remember(sim_state *state, const sim_slot *slot) {
  const uint32_t index = (uint32_t)(slot - state->slots);
  for (uint32_t card = 0; card < SIM_MAX_CARDS; card++) {
    sim_accounts *accounts = &state->accounts[card];
    if (accounts->enabled == 0 || slot->cards[card].peak_bytes == 0) continue;
    const sim_engine_process *worked = &state->engines[card].processes[index];
    const bool same = worked->identity == sim_identity(index, slot->ticket);
    accounts->past[accounts->next % SIM_ACCOUNTS] = (sim_past){
        .pid = slot->pid,
        .start_us = sim_start_us(slot->start_time_ns),
        .lived_ms = sim_subtract(boot_ns(), slot->start_time_ns) / 1000000u,
        .peak_bytes = slot->cards[card].peak_bytes,
        .gpu_time_ns = same ? worked->gpu_time_ns : 0,
    };
    __atomic_store_n(&accounts->next, accounts->next + 1, __ATOMIC_RELEASE);
  }
}

/* Forgets a slot whose process died. */
static void reap_slot(sim_state *state, sim_slot *slot) {
  remember(state, slot);
  sim_begin_reaping(&state->header);
  for (uint32_t card = 0; card < SIM_MAX_CARDS; card++) {
    uint64_t *sum = &state->cards[card].used_bytes;
    if (slot->cards[card].used_bytes != 0) sim_store_word(sum, sim_subtract(*sum, slot->cards[card].used_bytes));
  }
  share_forget_slot(state, (uint32_t)(slot - state->slots));
  memset(slot, 0, sizeof *slot);
  sim_end_reaping(&state->header);
}

static void reap(sim_session *session) {
  sim_state *state = session->store.map;
  uint32_t high = 0;
  for (uint32_t i = 0; i < sim_slots_in_use(&state->header); i++) {
    if (i != session->slot && sim_slot_in_use(&state->slots[i]) && !sim_slot_owner(session->store.fd, i, NULL))
      reap_slot(state, &state->slots[i]);
    if (sim_slot_in_use(&state->slots[i])) high = i + 1;
  }
  __atomic_store_n(&state->header.slot_high, high, __ATOMIC_RELAXED);
}

static void add_up(sim_state *state) {
  sim_begin_reaping(&state->header);
  for (uint32_t card = 0; card < SIM_MAX_CARDS; card++) {
    uint64_t sum = share_sum(state, card);
    for (uint32_t i = 0; i < sim_slots_in_use(&state->header); i++)
      if (sim_slot_in_use(&state->slots[i])) sum = sim_add(sum, sim_load(&state->slots[i].cards[card].used_bytes));
    sim_store_word(&state->cards[card].used_bytes, sum);
  }
  sim_end_reaping(&state->header);
  __atomic_store_n(&state->header.sums_stale, 0u, __ATOMIC_RELAXED);
}

static bool same_memory(const sim_state *state, uint32_t slot, uint32_t instance) {
  return slot < SIM_MAX_SLOTS && sim_instance_parent(state->slots[slot].instance) == sim_instance_parent(instance);
}

/* What is held of a GPU instance, by the dead too, and of shares by the living. */
static uint64_t held_of_instance(const sim_session *session, uint32_t card) {
  const sim_state *state = session->store.map;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < sim_slots_in_use(&state->header); i++)
    if (sim_slot_in_use(&state->slots[i]) && same_memory(state, i, session->instance))
      sum = sim_add(sum, sim_load(&state->slots[i].cards[card].used_bytes));
  for (uint32_t i = 0; i < SIM_MAX_SHARES; i++) {
    const sim_shared *share = &state->shares[i];
    if (share->bytes != 0 && share->card == card &&
        same_memory(state, share_payer(&session->store, share), session->instance))
      sum = sim_add(sum, share->bytes);
  }
  return sum;
}

/* ---- the session ------------------------------------------------------------------------------------------------- */

static void write_slot(sim_session *session, uint32_t ticket) {
  sim_slot *slot = own_slot(session);
  if (sim_slot_in_use(slot)) reap_slot(session->store.map, slot); /* of a process that died */
  memset(slot, 0, sizeof *slot);
  slot->ticket = ticket;
  slot->pid = (int32_t)getpid();
  snprintf(slot->command, sizeof slot->command, "%s", program_invocation_short_name);
  slot->start_time_ns = boot_ns();
  __atomic_store_n(&slot->state, 1u, __ATOMIC_RELEASE);
  if (sim_slots_in_use(&session->store.map->header) <= session->slot)
    __atomic_store_n(&session->store.map->header.slot_high, session->slot + 1, __ATOMIC_RELAXED);
}

/* The lowest byte from `from` on that no living process has. */
static bool claim(const sim_store *store, uint32_t from, uint32_t end, uint32_t *byte) {
  for (uint32_t i = from; i < end; i++) {
    if (sim_slot_owner(store->fd, i, NULL) || !sim_slot_claim(store->fd, i)) continue;
    *byte = i;
    return true;
  }
  return false;
}

/* Somebody may have cut the file short since it was mapped; a page without file behind it must not be touched. */
bool sim_session_intact(sim_session *session) {
  struct timespec now = {0, 0};
  struct stat status;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  int64_t at = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
  if (at - __atomic_load_n(&session->intact_at, __ATOMIC_RELAXED) < INTACT_NS) return true;
  if (fstat(session->store.fd, &status) != 0 || (uint64_t)status.st_size < SIM_STATE_SIZE) return false;
  __atomic_store_n(&session->intact_at, at, __ATOMIC_RELAXED);
  return true;
}

sim_status sim_session_enter(sim_session *session) {
  if (!sim_session_intact(session)) return SIM_INVALID;
  sim_status status = sim_lock(&session->store, session->lock_word);
  if (status != SIM_OK) return status;
  sim_state *state = session->store.map;
  if (__atomic_load_n(&state->header.sums_stale, __ATOMIC_RELAXED) != 0) add_up(state);
  return SIM_OK;
}

void sim_session_leave(sim_session *session) { sim_unlock(&session->store); }

/* Under the lock: as long as a slot's byte is ours and its content a dead process's, others would take that for alive.  The
 * lower the slots, the less there is to ask about. */
static sim_status take_slot(sim_session *session) {
  const sim_store *store = &session->store;
  if (!claim(store, 0, SIM_MAX_SLOTS, &session->slot)) return SIM_BUSY;
  uint32_t ticket = __atomic_add_fetch(&store->map->header.ticket, 1u, __ATOMIC_RELAXED);
  session->lock_word = sim_lock_word(session->slot, ticket);
  session->identity = sim_identity(session->slot, ticket);
  write_slot(session, ticket);
  return SIM_OK;
}

sim_status sim_session_begin(sim_session *session, const sim_store *store) {
  memset(session, 0, sizeof *session);
  session->store = *store;
  session->intact_at = INT64_MIN / 2;
  for (uint32_t i = 0; i < SIM_MAX_CARDS; i++) pthread_mutex_init(&session->engine_mutexes[i], NULL);
  uint32_t arrival;
  if (!claim(store, SIM_ARRIVALS, SIM_LOCK_SLOT_MASK, &arrival)) return SIM_BUSY;
  session->slot = arrival;
  session->lock_word = sim_lock_word(arrival, __atomic_add_fetch(&store->map->header.ticket, 1u, __ATOMIC_RELAXED));
  sim_status status = sim_session_enter(session);
  if (status == SIM_OK) {
    status = take_slot(session);
    sim_session_leave(session);
  }
  sim_slot_release(store->fd, arrival);
  return status;
}

void sim_session_reap(sim_session *session) {
  if (sim_session_enter(session) != SIM_OK) return;
  reap(session);
  sim_session_leave(session);
}

void sim_session_end(sim_session *session) {
  if (sim_session_enter(session) != SIM_OK) return;
  reap_slot(session->store.map, own_slot(session));
  sim_session_leave(session);
}

/* ---- charges ----------------------------------------------------------------------------------------------------- */

static void publish(sim_session *session, uint32_t card) {
  sim_slot_card *use = &own_slot(session)->cards[card];
  sim_store_word(&use->used_bytes, session->used_bytes[card]);
  if (session->used_bytes[card] > use->peak_bytes) sim_store_word(&use->peak_bytes, session->used_bytes[card]);
}

/* What is held of what this process may use, the card or its GPU instance. */
static uint64_t held_around(const sim_session *session, uint32_t card) {
  const sim_state *state = session->store.map;
  if (session->instance != 0) return held_of_instance(session, card);
  return sim_load(&state->cards[card].used_bytes);
}

/* Bytes that nobody holds and this process may have; looks for dead holders when fewer than `wanted`.  Under the lock. */
static uint64_t room(sim_session *session, uint32_t card, uint64_t wanted) {
  uint64_t total = session->instance != 0 ? session->instance_bytes : session->store.map->cards[card].memory_bytes;
  uint64_t held = held_around(session, card);
  if (held > total || total - held < wanted) {
    reap(session);
    held = held_around(session, card);
  }
  uint64_t own = session->most_bytes != 0 ? sim_subtract(session->most_bytes, session->used_bytes[card]) : UINT64_MAX;
  return own < sim_subtract(total, held) ? own : sim_subtract(total, held);
}

static void charge(sim_session *session, uint32_t card, uint64_t bytes) {
  sim_card *of = &session->store.map->cards[card];
  session->used_bytes[card] += bytes;
  sim_store_word(&of->used_bytes, sim_add(sim_load(&of->used_bytes), bytes));
  publish(session, card);
  if (sim_load(&of->used_bytes) <= sim_load(&of->peak_bytes)) return;
  if (sim_load(&of->used_bytes) != session->used_bytes[card]) reap(session);
  if (sim_load(&of->used_bytes) > sim_load(&of->peak_bytes)) sim_store_word(&of->peak_bytes, sim_load(&of->used_bytes));
}

sim_status sim_charge(sim_session *session, uint32_t card, uint64_t bytes) {
  sim_status status = sim_session_enter(session);
  if (status != SIM_OK) return status;
  if (room(session, card, bytes) < bytes)
    status = SIM_NO_SPACE;
  else
    charge(session, card, bytes);
  sim_session_leave(session);
  return status;
}

sim_status sim_charge_upto(sim_session *session, uint32_t card, uint64_t bytes, uint64_t *charged) {
  sim_status status = sim_session_enter(session);
  if (status != SIM_OK) return status;
  uint64_t fits = room(session, card, bytes);
  *charged = fits < bytes ? fits : bytes;
  charge(session, card, *charged);
  sim_session_leave(session);
  return SIM_OK;
}

void sim_discharge(sim_session *session, uint32_t card, uint64_t bytes) {
  sim_status status = sim_session_enter(session);
  if (status == SIM_INVALID) return;
  sim_state *state = session->store.map;
  session->used_bytes[card] -= bytes;
  publish(session, card);
  if (status == SIM_OK) {
    uint64_t *sum = &state->cards[card].used_bytes;
    sim_store_word(sum, sim_subtract(sim_load(sum), bytes));
    sim_session_leave(session);
  } else {
    /* Nothing honest holds the lock for seconds.  The slot is right; whoever comes next makes the sum so. */
    __atomic_store_n(&state->header.sums_stale, 1u, __ATOMIC_RELAXED);
  }
}

void sim_count_launch(sim_session *session, uint32_t card) {
  __atomic_fetch_add(&own_slot(session)->cards[card].launches, 1u, __ATOMIC_RELAXED);
}

void sim_count_context(sim_session *session, uint32_t card, int change) {
  if (!sim_session_intact(session)) return;
  __atomic_fetch_add(&own_slot(session)->cards[card].contexts, (uint64_t)(int64_t)change, __ATOMIC_RELAXED);
}

uint64_t sim_context_overhead(sim_session *session, uint32_t card) {
  if (!sim_session_intact(session)) return 0;
  return sim_load(&session->store.map->cards[card].context_overhead_bytes);
}

bool sim_driver_memory(sim_session *session, uint32_t card) {
  if (!sim_session_intact(session)) return false;
  return __atomic_load_n(&session->store.map->cards[card].driver_memory, __ATOMIC_RELAXED) != 0;
}

/* What slots say whose process is dead. */
static uint64_t held_by_the_dead(const sim_session *session, uint32_t card) {
  const sim_state *state = session->store.map;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < sim_slots_in_use(&state->header); i++) {
    const sim_slot *slot = &state->slots[i];
    if (i == session->slot || !sim_slot_in_use(slot) || sim_load(&slot->cards[card].used_bytes) == 0) continue;
    if (!sim_slot_owner(session->store.fd, i, NULL)) sum = sim_add(sum, sim_load(&slot->cards[card].used_bytes));
  }
  return sim_add(sum, share_sum_of_dead(&session->store, card));
}

/* Waits for whoever is putting sums in order, or does it in a dead one's place. */
static sim_status settle(sim_session *session) {
  sim_status status = sim_session_enter(session);
  if (status == SIM_OK) sim_session_leave(session);
  return status;
}

static sim_status used_of_instance(sim_session *session, uint32_t card, uint64_t *used_bytes) {
  sim_status status = sim_session_enter(session);
  if (status != SIM_OK) return status;
  reap(session);
  *used_bytes = held_of_instance(session, card);
  sim_session_leave(session);
  return SIM_OK;
}

sim_status sim_used(sim_session *session, uint32_t card, uint64_t *used_bytes) {
  if (!sim_session_intact(session)) return SIM_INVALID;
  if (session->instance != 0) return used_of_instance(session, card, used_bytes);
  const sim_header *header = &session->store.map->header;
  const uint64_t *sum = &session->store.map->cards[card].used_bytes;
  for (;;) {
    uint32_t reaps = __atomic_load_n(&header->reaps, __ATOMIC_ACQUIRE);
    if (reaps % 2 != 0 || __atomic_load_n(&header->sums_stale, __ATOMIC_RELAXED) != 0) {
      sim_status status = settle(session);
      if (status != SIM_OK) return status;
      continue;
    }
    *used_bytes = sim_load(sum);
    if (*used_bytes == sim_load(&own_slot(session)->cards[card].used_bytes)) return SIM_OK;
    uint64_t dead = held_by_the_dead(session, card);
    /* The dead stand still, so the sum is read after them. */
    *used_bytes = sim_subtract(sim_load(sum), dead);
    if (__atomic_load_n(&header->reaps, __ATOMIC_RELAXED) == reaps) return SIM_OK;
  }
}
