#include "account.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"

#define READ_ATTEMPTS 200

static uint64_t add_saturating(uint64_t a, uint64_t b) { return a + b < a ? UINT64_MAX : a + b; }

static uint32_t slots_in_use(const sim_header *header) {
  uint32_t high = __atomic_load_n(&header->slot_high, __ATOMIC_RELAXED);
  return high <= SIM_MAX_SLOTS ? high : SIM_MAX_SLOTS;
}

static sim_slot *own_slot(const sim_session *session) { return &session->store.map->slots[session->slot]; }

/* Forgets slots whose process died.  Under the lock. */
static void reap(sim_session *session) {
  sim_state *state = session->store.map;
  uint32_t high = 0;
  for (uint32_t i = 0; i < slots_in_use(&state->header); i++) {
    if (state->slots[i].state != 0 && !sim_slot_owner(session->store.fd, i, NULL))
      memset(&state->slots[i], 0, sizeof state->slots[i]);
    if (state->slots[i].state != 0) high = i + 1;
  }
  __atomic_store_n(&state->header.slot_high, high, __ATOMIC_RELAXED);
}

static uint64_t charged_by_all(const sim_state *state, uint32_t card) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < slots_in_use(&state->header); i++)
    if (state->slots[i].state != 0) sum = add_saturating(sum, state->slots[i].cards[card].used_bytes);
  return sum;
}

static void write_slot(sim_session *session, uint32_t ticket) {
  sim_slot *slot = own_slot(session);
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_BOOTTIME, &now);
  memset(slot, 0, sizeof *slot);
  slot->ticket = ticket;
  slot->pid = (int32_t)getpid();
  snprintf(slot->command, sizeof slot->command, "%s", program_invocation_short_name);
  slot->start_time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  __atomic_store_n(&slot->state, 1u, __ATOMIC_RELEASE);
  if (slots_in_use(&session->store.map->header) <= session->slot)
    __atomic_store_n(&session->store.map->header.slot_high, session->slot + 1, __ATOMIC_RELAXED);
}

/* A free slot, lowest first: those marked free, else those whose process died. */
static bool find_slot(const sim_store *store, uint32_t *slot) {
  for (int pass = 0; pass < 2; pass++) {
    for (uint32_t i = 0; i < SIM_MAX_SLOTS; i++) {
      if (pass == 0 && __atomic_load_n(&store->map->slots[i].state, __ATOMIC_RELAXED) != 0) continue;
      if (sim_slot_owner(store->fd, i, NULL) || !sim_slot_claim(store->fd, i)) continue;
      *slot = i;
      return true;
    }
  }
  return false;
}

sim_status sim_session_begin(sim_session *session, const sim_store *store) {
  memset(session, 0, sizeof *session);
  session->store = *store;
  pthread_mutex_init(&session->mutex, NULL);
  if (!find_slot(store, &session->slot)) return SIM_BUSY;
  uint32_t ticket = __atomic_add_fetch(&store->map->header.ticket, 1u, __ATOMIC_RELAXED);
  session->lock_word = sim_lock_word(session->slot, ticket);
  sim_status status = sim_lock(store, session->lock_word);
  if (status != SIM_OK) return status;
  write_slot(session, ticket);
  sim_unlock(store);
  return SIM_OK;
}

/* Somebody may have cut the file short since it was mapped; a page without file behind it must not be touched. */
static bool intact(const sim_session *session) {
  struct stat status;
  return fstat(session->store.fd, &status) == 0 && (uint64_t)status.st_size >= SIM_STATE_SIZE;
}

static sim_status enter(sim_session *session) {
  pthread_mutex_lock(&session->mutex);
  sim_status status = intact(session) ? sim_lock(&session->store, session->lock_word) : SIM_INVALID;
  if (status != SIM_OK) pthread_mutex_unlock(&session->mutex);
  return status;
}

static void leave(sim_session *session) {
  sim_unlock(&session->store);
  pthread_mutex_unlock(&session->mutex);
}

static void publish(sim_session *session, uint32_t card) {
  __atomic_store_n(&own_slot(session)->cards[card].used_bytes, session->used_bytes[card], __ATOMIC_RELAXED);
}

/* Bytes of the card that nobody holds; looks for dead holders when fewer than `wanted`.  Under the lock. */
static uint64_t room(sim_session *session, uint32_t card, uint64_t wanted, uint64_t *held) {
  const sim_state *state = session->store.map;
  uint64_t total = state->cards[card].memory_bytes;
  *held = charged_by_all(state, card);
  if (*held > total || total - *held < wanted) {
    reap(session);
    *held = charged_by_all(state, card);
  }
  return *held < total ? total - *held : 0;
}

static void charge(sim_session *session, uint32_t card, uint64_t bytes, uint64_t held) {
  session->used_bytes[card] += bytes;
  publish(session, card);
  uint64_t *peak = &session->store.map->cards[card].peak_bytes;
  if (held + bytes > *peak) __atomic_store_n(peak, held + bytes, __ATOMIC_RELAXED);
}

sim_status sim_charge(sim_session *session, uint32_t card, uint64_t bytes) {
  uint64_t held;
  sim_status status = enter(session);
  if (status != SIM_OK) return status;
  if (room(session, card, bytes, &held) < bytes)
    status = SIM_NO_SPACE;
  else
    charge(session, card, bytes, held);
  leave(session);
  return status;
}

sim_status sim_charge_upto(sim_session *session, uint32_t card, uint64_t bytes, uint64_t *charged) {
  uint64_t held;
  sim_status status = enter(session);
  if (status != SIM_OK) return status;
  uint64_t fits = room(session, card, bytes, &held);
  *charged = fits < bytes ? fits : bytes;
  charge(session, card, *charged, held);
  leave(session);
  return SIM_OK;
}

void sim_discharge(sim_session *session, uint32_t card, uint64_t bytes) {
  pthread_mutex_lock(&session->mutex);
  session->used_bytes[card] -= bytes;
  if (intact(session)) {
    /* Right also without the lock, which only lets readers see instants. */
    sim_status status = sim_lock(&session->store, session->lock_word);
    publish(session, card);
    if (status == SIM_OK) sim_unlock(&session->store);
  }
  pthread_mutex_unlock(&session->mutex);
}

void sim_count_launch(sim_session *session, uint32_t card) {
  __atomic_fetch_add(&own_slot(session)->cards[card].launches, 1u, __ATOMIC_RELAXED);
}

void sim_count_context(sim_session *session, uint32_t card, int change) {
  if (!intact(session)) return;
  __atomic_fetch_add(&own_slot(session)->cards[card].contexts, (uint64_t)(int64_t)change, __ATOMIC_RELAXED);
}

uint64_t sim_context_overhead(const sim_session *session, uint32_t card) {
  if (!intact(session)) return 0;
  return __atomic_load_n(&session->store.map->cards[card].context_overhead_bytes, __ATOMIC_RELAXED);
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

static void add_slot(const sim_store *store, uint32_t index, const sim_slot *slot, uint32_t card, sim_usage *usage) {
  const sim_slot_card *use = &slot->cards[card];
  pid_t pid = 0;
  if (slot->state == 0 || (use->used_bytes == 0 && use->contexts == 0) || !sim_slot_owner(store->fd, index, &pid))
    return;
  usage->used_bytes = add_saturating(usage->used_bytes, use->used_bytes);
  if (usage->processes != NULL) {
    sim_process *process = &usage->processes[usage->process_count];
    process->pid = pid != 0 ? pid : slot->pid;
    memcpy(process->command, slot->command, sizeof process->command);
    process->command[sizeof process->command - 1] = '\0';
    process->use = *use;
  }
  usage->process_count++;
}

/* Header and the slots that may be in use, read between two equal even sequence numbers if that can be had. */
static sim_status read_slots(const sim_store *store, sim_header *copy, sim_slot **slots, uint32_t *count) {
  for (int attempt = 0;; attempt++) {
    if (!read_at(store->fd, copy, sizeof *copy, 0)) return SIM_INVALID;
    uint32_t before = copy->sequence;
    *count = slots_in_use(copy);
    sim_slot *grown = realloc(*slots, (*count + 1) * sizeof **slots);
    if (grown == NULL) return SIM_SYSTEM;
    *slots = grown;
    if (!read_at(store->fd, grown, *count * sizeof **slots, offsetof(sim_state, slots))) return SIM_INVALID;
    uint32_t after;
    if (!read_at(store->fd, &after, sizeof after, offsetof(sim_header, sequence))) return SIM_INVALID;
    if ((before == after && before % 2 == 0) || attempt == READ_ATTEMPTS) return SIM_OK;
    sched_yield();
  }
}

sim_status sim_usage_read(const sim_store *store, uint32_t card, sim_usage *usage) {
  sim_header head;
  sim_slot *slots = NULL;
  uint32_t count = 0;
  usage->used_bytes = 0;
  usage->process_count = 0;
  sim_status status = read_slots(store, &head, &slots, &count);
  for (uint32_t i = 0; status == SIM_OK && i < count; i++) add_slot(store, i, &slots[i], card, usage);
  if (status == SIM_OK &&
      !read_at(store->fd, &usage->peak_bytes, sizeof usage->peak_bytes,
               offsetof(sim_state, cards) + card * sizeof(sim_card) + offsetof(sim_card, peak_bytes)))
    status = SIM_INVALID;
  free(slots);
  return status;
}
