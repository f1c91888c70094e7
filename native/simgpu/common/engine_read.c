#include "engine_read.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lock.h"

#define ATTEMPTS 2000

typedef struct source {
  const sim_store *store;
  size_t engine_offset; /* in the state file */
  sim_engine *into;
  bool good;
} source;

/* Copies a piece of the engine to its place in the copy. */
static void copy_piece(source *from, size_t offset, size_t size) {
  for (size_t done = 0; from->good && done < size;) {
    ssize_t got = pread(from->store->fd, (char *)from->into + offset + done, size - done,
                        (off_t)(from->engine_offset + offset + done));
    if (got < 0 && errno == EINTR) continue;
    from->good = got > 0;
    if (got > 0) done += (size_t)got;
  }
}

/* Copies the items of a channel that are yet to be done. */
static void copy_ring(source *from, uint32_t index) {
  const sim_channel *channel = &from->into->channels[index];
  uint64_t count = channel->submitted - channel->done;
  uint64_t first = channel->done % SIM_RING_ITEMS;
  if (count == 0 || count > SIM_RING_ITEMS) return;
  uint64_t straight = count < SIM_RING_ITEMS - first ? count : SIM_RING_ITEMS - first;
  size_t ring = offsetof(sim_engine, rings) + index * sizeof from->into->rings[0];
  copy_piece(from, ring + first * sizeof(sim_item), straight * sizeof(sim_item));
  if (count > straight) copy_piece(from, ring, (count - straight) * sizeof(sim_item));
}

static uint32_t copy_engine(source *from) {
  sim_engine *into = from->into;
  copy_piece(from, 0, offsetof(sim_engine, processes));
  uint32_t processes = into->process_high < SIM_MAX_SLOTS ? (uint32_t)into->process_high : SIM_MAX_SLOTS;
  copy_piece(from, offsetof(sim_engine, processes), processes * sizeof(sim_engine_process));
  copy_piece(from, offsetof(sim_engine, histories), processes * sizeof(sim_history));
  uint64_t high = into->channel_high < SIM_MAX_CHANNELS ? into->channel_high : SIM_MAX_CHANNELS;
  copy_piece(from, offsetof(sim_engine, channels), high * sizeof(sim_channel));
  for (uint32_t i = 0; i < high; i++)
    if ((into->active[i / 64] >> i % 64 & 1) != 0) copy_ring(from, i);
  return processes;
}

/* Whether the copy was made while nobody changed the engine: its sequence is even and still the same. */
static bool undisturbed(source *from) {
  uint32_t words[2];
  uint32_t before = from->into->sequence;
  ssize_t got = pread(from->store->fd, words, sizeof words, (off_t)from->engine_offset);
  if (got != (ssize_t)sizeof words) return false;
  /* Whoever died at work left the sequence odd, and changes nothing any more. */
  return words[1] == before && (before % 2 == 0 || !sim_lock_held(from->store, words[0]));
}

sim_status sim_engine_read(const sim_store *store, uint32_t card, sim_engine_copy *copy) {
  void *pages =
      mmap(NULL, sizeof(sim_engine), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  copy->engine = pages == MAP_FAILED ? NULL : pages;
  copy->process_count = 0;
  if (copy->engine == NULL) return SIM_SYSTEM;
  source from = {.store = store,
                 .engine_offset = offsetof(sim_state, engines) + (card % SIM_MAX_CARDS) * sizeof(sim_engine),
                 .into = copy->engine,
                 .good = true};
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    copy->process_count = copy_engine(&from);
    if (!from.good) return SIM_INVALID;
    if (undisturbed(&from)) break;
    sched_yield();
  }
  sim_engine_recover(copy->engine);
  sim_engine_advance(copy->engine, store, sim_clock_ns());
  return SIM_OK;
}

void sim_engine_forget(sim_engine_copy *copy) {
  if (copy->engine != NULL) munmap(copy->engine, sizeof *copy->engine);
  copy->engine = NULL;
}

uint64_t sim_copy_gpu_time(const sim_engine_copy *copy, uint64_t identity) {
  const sim_engine_process *process = &copy->engine->processes[sim_identity_slot(identity) % SIM_MAX_SLOTS];
  return process->identity == identity ? process->gpu_time_ns : 0;
}

uint64_t sim_copy_retired(const sim_engine_copy *copy, const sim_store *store) {
  uint64_t retired = copy->engine->retired_gpu_time_ns;
  for (uint32_t i = 0; i < copy->process_count; i++) {
    const sim_engine_process *process = &copy->engine->processes[i];
    if (process->identity != 0 && !sim_identity_lives(store, process->identity)) retired += process->gpu_time_ns;
  }
  return retired;
}

uint64_t sim_history_ns(const sim_history history, uint64_t period) {
  uint64_t word = history[period % SIM_PERIODS];
  return word >> 32 == (uint32_t)period ? word & UINT32_MAX : 0;
}
