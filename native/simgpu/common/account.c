#include "account.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "lock.h"

#define READ_ATTEMPTS 200
#define SUM_ATTEMPTS 3    /* after which a reader is content with the running sum */
#define INTACT_NS 4000000 /* how long the size of the state file is believed */

static uint64_t add_saturating(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

static uint64_t subtract_saturating(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* Readers without lock rely on the order: a figure is stored after the marks that say it may be wrong, and read before. */
static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }

static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

static uint32_t slots_in_use(const sim_header *header) {
  uint32_t high = __atomic_load_n(&header->slot_high, __ATOMIC_RELAXED);
  return high <= SIM_MAX_SLOTS ? high : SIM_MAX_SLOTS;
}

static sim_slot *own_slot(const sim_session *session) { return &session->store.map->slots[session->slot]; }

static bool in_use(const sim_slot *slot) { return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != 0; }

/* ---- sums; all of it under the lock ------------------------------------------------------------------------------ */

/* While `reaps` is odd, slots of the dead and sums do not fit each other. */
static void begin_reaping(sim_state *state) { __atomic_fetch_or(&state->header.reaps, 1u, __ATOMIC_SEQ_CST); }

static void end_reaping(sim_state *state) { __atomic_fetch_add(&state->header.reaps, 1u, __ATOMIC_SEQ_CST); }

/* Forgets a slot whose process died. */
static void reap_slot(sim_state *state, sim_slot *slot) {
  begin_reaping(state);
  for (uint32_t card = 0; card < SIM_MAX_CARDS; card++) {
    uint64_t *sum = &state->cards[card].used_bytes;
    if (slot->cards[card].used_bytes != 0) store(sum, subtract_saturating(*sum, slot->cards[card].used_bytes));
  }
  memset(slot, 0, sizeof *slot);
  end_reaping(state);
}

static void reap(sim_session *session) {
  sim_state *state = session->store.map;
  uint32_t high = 0;
  for (uint32_t i = 0; i < slots_in_use(&state->header); i++) {
    if (i != session->slot && in_use(&state->slots[i]) && !sim_slot_owner(session->store.fd, i, NULL))
      reap_slot(state, &state->slots[i]);
    if (in_use(&state->slots[i])) high = i + 1;
  }
  __atomic_store_n(&state->header.slot_high, high, __ATOMIC_RELAXED);
}

static void add_up(sim_state *state) {
  begin_reaping(state);
  for (uint32_t card = 0; card < SIM_MAX_CARDS; card++) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < slots_in_use(&state->header); i++)
      if (in_use(&state->slots[i])) sum = add_saturating(sum, load(&state->slots[i].cards[card].used_bytes));
    store(&state->cards[card].used_bytes, sum);
  }
  end_reaping(state);
  __atomic_store_n(&state->header.sums_stale, 0u, __ATOMIC_RELAXED);
}

/* ---- the session ------------------------------------------------------------------------------------------------- */

static void write_slot(sim_session *session, uint32_t ticket) {
  sim_slot *slot = own_slot(session);
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_BOOTTIME, &now);
  if (in_use(slot)) reap_slot(session->store.map, slot); /* of a process that died */
  memset(slot, 0, sizeof *slot);
  slot->ticket = ticket;
  slot->pid = (int32_t)getpid();
  snprintf(slot->command, sizeof slot->command, "%s", program_invocation_short_name);
  slot->start_time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  __atomic_store_n(&slot->state, 1u, __ATOMIC_RELEASE);
  if (slots_in_use(&session->store.map->header) <= session->slot)
    __atomic_store_n(&session->store.map->header.slot_high, session->slot + 1, __ATOMIC_RELAXED);
}

/* The lowest slot that no living process has: the fewer slots, the less there is to ask about. */
static bool find_slot(const sim_store *store, uint32_t *slot) {
  for (uint32_t i = 0; i < SIM_MAX_SLOTS; i++) {
    if (sim_slot_owner(store->fd, i, NULL) || !sim_slot_claim(store->fd, i)) continue;
    *slot = i;
    return true;
  }
  return false;
}

/* Somebody may have cut the file short since it was mapped. */
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

static sim_status enter(sim_session *session) {
  if (!sim_session_intact(session)) return SIM_INVALID;
  sim_status status = sim_lock(&session->store, session->lock_word);
  if (status != SIM_OK) return status;
  sim_state *state = session->store.map;
  if (__atomic_load_n(&state->header.sums_stale, __ATOMIC_RELAXED) != 0) add_up(state);
  return SIM_OK;
}

static void leave(sim_session *session) { sim_unlock(&session->store); }

sim_status sim_session_begin(sim_session *session, const sim_store *store) {
  memset(session, 0, sizeof *session);
  session->store = *store;
  session->intact_at = INT64_MIN / 2;
  for (uint32_t i = 0; i < SIM_MAX_CARDS; i++) pthread_mutex_init(&session->engine_mutexes[i], NULL);
  if (!find_slot(store, &session->slot)) return SIM_BUSY;
  uint32_t ticket = __atomic_add_fetch(&store->map->header.ticket, 1u, __ATOMIC_RELAXED);
  session->lock_word = sim_lock_word(session->slot, ticket);
  session->identity = sim_identity(session->slot, ticket);
  sim_status status = enter(session);
  if (status != SIM_OK) return status;
  write_slot(session, ticket);
  leave(session);
  return SIM_OK;
}

/* ---- charges ----------------------------------------------------------------------------------------------------- */

static void publish(sim_session *session, uint32_t card) {
  store(&own_slot(session)->cards[card].used_bytes, session->used_bytes[card]);
}

/* Bytes of the card that nobody holds; looks for dead holders when fewer than `wanted`.  Under the lock. */
static uint64_t room(sim_session *session, uint32_t card, uint64_t wanted) {
  sim_state *state = session->store.map;
  uint64_t total = state->cards[card].memory_bytes;
  uint64_t held = load(&state->cards[card].used_bytes);
  if (held > total || total - held < wanted) {
    reap(session);
    held = load(&state->cards[card].used_bytes);
  }
  return subtract_saturating(total, held);
}

static void charge(sim_session *session, uint32_t card, uint64_t bytes) {
  sim_card *of = &session->store.map->cards[card];
  session->used_bytes[card] += bytes;
  store(&of->used_bytes, add_saturating(load(&of->used_bytes), bytes));
  publish(session, card);
  if (load(&of->used_bytes) <= load(&of->peak_bytes)) return;
  if (load(&of->used_bytes) != session->used_bytes[card]) reap(session);
  if (load(&of->used_bytes) > load(&of->peak_bytes)) store(&of->peak_bytes, load(&of->used_bytes));
}

sim_status sim_charge(sim_session *session, uint32_t card, uint64_t bytes) {
  sim_status status = enter(session);
  if (status != SIM_OK) return status;
  if (room(session, card, bytes) < bytes)
    status = SIM_NO_SPACE;
  else
    charge(session, card, bytes);
  leave(session);
  return status;
}

sim_status sim_charge_upto(sim_session *session, uint32_t card, uint64_t bytes, uint64_t *charged) {
  sim_status status = enter(session);
  if (status != SIM_OK) return status;
  uint64_t fits = room(session, card, bytes);
  *charged = fits < bytes ? fits : bytes;
  charge(session, card, *charged);
  leave(session);
  return SIM_OK;
}

void sim_discharge(sim_session *session, uint32_t card, uint64_t bytes) {
  sim_status status = enter(session);
  if (status == SIM_INVALID) return;
  sim_state *state = session->store.map;
  session->used_bytes[card] -= bytes;
  publish(session, card);
  if (status == SIM_OK) {
    uint64_t *sum = &state->cards[card].used_bytes;
    store(sum, subtract_saturating(load(sum), bytes));
    leave(session);
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
  return load(&session->store.map->cards[card].context_overhead_bytes);
}

/* What slots say whose process is dead. */
static uint64_t held_by_the_dead(const sim_session *session, uint32_t card) {
  const sim_state *state = session->store.map;
  uint64_t sum = 0;
  for (uint32_t i = 0; i < slots_in_use(&state->header); i++) {
    const sim_slot *slot = &state->slots[i];
    if (i == session->slot || !in_use(slot) || load(&slot->cards[card].used_bytes) == 0) continue;
    if (!sim_slot_owner(session->store.fd, i, NULL)) sum = add_saturating(sum, load(&slot->cards[card].used_bytes));
  }
  return sum;
}

/* Waits for whoever is putting sums in order, or does it in a dead one's place. */
static sim_status settle(sim_session *session) {
  sim_status status = enter(session);
  if (status == SIM_OK) leave(session);
  return status;
}

sim_status sim_used(sim_session *session, uint32_t card, uint64_t *used_bytes) {
  if (!sim_session_intact(session)) return SIM_INVALID;
  const sim_header *header = &session->store.map->header;
  const uint64_t *sum = &session->store.map->cards[card].used_bytes;
  for (;;) {
    uint32_t reaps = __atomic_load_n(&header->reaps, __ATOMIC_ACQUIRE);
    if (reaps % 2 != 0 || __atomic_load_n(&header->sums_stale, __ATOMIC_RELAXED) != 0) {
      sim_status status = settle(session);
      if (status != SIM_OK) return status;
      continue;
    }
    *used_bytes = load(sum);
    if (*used_bytes == load(&own_slot(session)->cards[card].used_bytes)) return SIM_OK;
    uint64_t dead = held_by_the_dead(session, card);
    /* The dead stand still, so the sum is read after them. */
    *used_bytes = subtract_saturating(load(sum), dead);
    if (__atomic_load_n(&header->reaps, __ATOMIC_RELAXED) == reaps) return SIM_OK;
  }
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static bool read_at(int fd, void *into, size_t size, size_t offset) {
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(fd, (char *)into + done, size - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += (size_t)got;
  }
  return true;
}

/* What was read of the state file, between two equal even sequence numbers if that could be had. */
typedef struct snapshot {
  sim_header header;
  sim_card card;
  sim_slot *slots;
  uint32_t count;
  bool still; /* nothing changed while it was read */
} snapshot;

static bool read_once(const sim_store *store, uint32_t card, snapshot *into) {
  if (!read_at(store->fd, &into->header, sizeof into->header, 0)) return false;
  into->count = slots_in_use(&into->header);
  sim_slot *grown = realloc(into->slots, (into->count + 1) * sizeof *grown);
  if (grown == NULL) return false;
  into->slots = grown;
  sim_header after;
  if (!read_at(store->fd, grown, into->count * sizeof *grown, offsetof(sim_state, slots)) ||
      !read_at(store->fd, &into->card, sizeof into->card, offsetof(sim_state, cards) + card * sizeof into->card) ||
      !read_at(store->fd, &after, offsetof(sim_header, cuda_version), 0))
    return false;
  into->still = into->header.sequence % 2 == 0 && into->header.sequence == after.sequence;
  return true;
}

/* Whether the sum of the card can stand for the slots: nobody reaped, and nobody died with the lock in hand. */
static bool sum_usable(const sim_store *store, const sim_header *before) {
  sim_header now;
  if (!read_at(store->fd, &now, sizeof now, 0)) return false;
  uint32_t owner = now.lock & SIM_LOCK_SLOT_MASK;
  if (owner > SIM_MAX_SLOTS || (owner != 0 && !sim_slot_owner(store->fd, owner - 1, NULL))) return false;
  return now.sums_stale == 0 && now.reaps == before->reaps && now.reaps % 2 == 0;
}

static void add_process(const sim_slot *slot, uint32_t index, pid_t pid, uint32_t card, sim_usage *usage) {
  if (usage->processes != NULL) {
    sim_process *process = &usage->processes[usage->process_count];
    process->pid = pid != 0 ? pid : slot->pid;
    memcpy(process->command, slot->command, sizeof process->command);
    process->command[sizeof process->command - 1] = '\0';
    process->use = slot->cards[card];
    process->identity = sim_identity(index, slot->ticket);
  }
  usage->process_count++;
}

/* What the slot of a process that is dead by now says. */
static uint64_t last_word(const sim_store *store, uint32_t slot, uint32_t card) {
  sim_slot_card use = {.used_bytes = 0};
  read_at(store->fd, &use, sizeof use,
          offsetof(sim_state, slots) + slot * sizeof(sim_slot) + offsetof(sim_slot, cards) + card * sizeof use);
  return use.used_bytes;
}

/* Splits the slots into those of the living, whose processes are listed, and of the dead. */
static void sum_up(const sim_store *store, const snapshot *seen, uint32_t card, sim_usage *usage, uint64_t *dead) {
  usage->used_bytes = 0;
  usage->process_count = 0;
  *dead = 0;
  for (uint32_t i = 0; i < seen->count; i++) {
    const sim_slot_card *use = &seen->slots[i].cards[card];
    pid_t pid = 0;
    if (seen->slots[i].state == 0 || (use->used_bytes == 0 && use->contexts == 0)) continue;
    if (sim_slot_owner(store->fd, i, &pid)) {
      usage->used_bytes = add_saturating(usage->used_bytes, use->used_bytes);
      add_process(&seen->slots[i], i, pid, card, usage);
    } else {
      *dead = add_saturating(*dead, last_word(store, i, card));
    }
  }
}

/* For a file that changes faster than it can be read: the running sum, which is right at each instant. */
static bool use_sum(const sim_store *store, const snapshot *seen, uint32_t card, uint64_t dead, sim_usage *usage) {
  uint64_t sum;
  const size_t place = offsetof(sim_state, cards) + card * sizeof(sim_card) + offsetof(sim_card, used_bytes);
  if (!read_at(store->fd, &sum, sizeof sum, place) || !sum_usable(store, &seen->header)) return false;
  usage->used_bytes = subtract_saturating(sum, dead);
  return true;
}

sim_status sim_usage_read(const sim_store *store, uint32_t card, sim_usage *usage) {
  snapshot seen = {.slots = NULL};
  uint64_t dead;
  bool good = true;
  usage->used_bytes = 0;
  usage->process_count = 0;
  for (int attempt = 0; attempt < READ_ATTEMPTS && (good = read_once(store, card, &seen)); attempt++) {
    sum_up(store, &seen, card, usage, &dead);
    if (seen.still || (attempt >= SUM_ATTEMPTS && use_sum(store, &seen, card, dead, usage))) break;
    sched_yield();
  }
  usage->peak_bytes = good ? seen.card.peak_bytes : 0;
  free(seen.slots);
  return good ? SIM_OK : SIM_INVALID;
}
