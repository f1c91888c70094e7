#include "account.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "instance_word.h"
#include "lock.h"
#include "share.h"
#include "word.h"

#define READ_ATTEMPTS 200
#define FOREIGN_ID 1000000 /* and the slot: nobody has that id here */
#define SUM_ATTEMPTS 3     /* after which a reader is content with the running sum */

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
  sim_shared shares[SIM_MAX_SHARES];
  uint64_t shared_bytes[SIM_MAX_SLOTS]; /* what of the shares is put down to a slot */
  bool still;                           /* nothing changed while it was read */
} snapshot;

static bool read_once(const sim_store *store, uint32_t card, snapshot *into) {
  if (!read_at(store->fd, &into->header, sizeof into->header, 0)) return false;
  into->count = sim_slots_in_use(&into->header);
  sim_slot *grown = realloc(into->slots, (into->count + 1) * sizeof *grown);
  if (grown == NULL) return false;
  into->slots = grown;
  sim_header after;
  if (!read_at(store->fd, grown, into->count * sizeof *grown, offsetof(sim_state, slots)) ||
      !read_at(store->fd, &into->card, sizeof into->card, offsetof(sim_state, cards) + card * sizeof into->card) ||
      !read_at(store->fd, into->shares, sizeof into->shares, offsetof(sim_state, shares)) ||
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
  if (owner != 0 && !sim_slot_owner(store->fd, owner - 1, NULL)) return false;
  return now.sums_stale == 0 && now.reaps == before->reaps && now.reaps % 2 == 0;
}

static void add_process(const sim_slot *slot, uint32_t index, pid_t pid, const sim_slot_card *use, sim_usage *usage) {
  usage->used_bytes = sim_add(usage->used_bytes, use->used_bytes);
  if (usage->visible_only && pid == 0) return;
  if (usage->processes != NULL) {
    sim_process *process = &usage->processes[usage->process_count];
    process->pid = pid != 0 ? pid : slot->pid;
    memcpy(process->command, slot->command, sizeof process->command);
    process->command[sizeof process->command - 1] = '\0';
    process->instance = slot->instance;
    process->start_time_ns = slot->start_time_ns;
    process->use = *use;
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

/* Puts each share down to one of its living holders; those that have none are the dead's. */
static uint64_t attribute_shares(const sim_store *store, snapshot *seen, uint32_t card) {
  uint64_t dead = 0;
  memset(seen->shared_bytes, 0, sizeof seen->shared_bytes);
  for (uint32_t i = 0; i < SIM_MAX_SHARES; i++) {
    const sim_shared *share = &seen->shares[i];
    if (share->bytes == 0 || share->card != card) continue;
    uint32_t payer = share_payer(store, share);
    if (payer < seen->count)
      seen->shared_bytes[payer] = sim_add(seen->shared_bytes[payer], share->bytes);
    else
      dead = sim_add(dead, share->bytes);
  }
  return dead;
}

/* Splits what the slots say into that of the living, whose processes are listed, and of the dead. */
static void sum_up(const sim_store *store, snapshot *seen, uint32_t card, sim_usage *usage, uint64_t *dead) {
  usage->used_bytes = 0;
  usage->process_count = 0;
  *dead = attribute_shares(store, seen, card);
  for (uint32_t i = 0; i < seen->count; i++) {
    sim_slot_card use = seen->slots[i].cards[card];
    pid_t pid = 0;
    use.used_bytes = sim_add(use.used_bytes, seen->shared_bytes[i]);
    if (seen->slots[i].state == 0 || (use.used_bytes == 0 && use.contexts == 0)) continue;
    if (usage->only != 0 && sim_instance_parent(seen->slots[i].instance) != sim_instance_parent(usage->only)) continue;
    const bool lives = sim_slot_owner(store->fd, i, &pid);
    if (lives && usage->visible_only && seen->header.foreign_ids != 0) pid = FOREIGN_ID + (pid_t)i;
    if (lives)
      add_process(&seen->slots[i], i, pid, &use, usage);
    else
      *dead = sim_add(*dead, last_word(store, i, card));
  }
}

/* For a file that changes faster than it can be read: the running sum, which is right at each instant. */
static bool use_sum(const sim_store *store, const snapshot *seen, uint32_t card, uint64_t dead, sim_usage *usage) {
  uint64_t sum;
  if (usage->only != 0) return false;
  const size_t place = offsetof(sim_state, cards) + card * sizeof(sim_card) + offsetof(sim_card, used_bytes);
  if (!read_at(store->fd, &sum, sizeof sum, place) || !sum_usable(store, &seen->header)) return false;
  usage->used_bytes = sim_subtract(sum, dead);
  return true;
}

sim_status sim_usage_read(const sim_store *store, uint32_t card, sim_usage *usage) {
  uint64_t dead;
  bool good = true;
  usage->used_bytes = 0;
  usage->peak_bytes = 0;
  usage->process_count = 0;
  snapshot *seen = calloc(1, sizeof *seen);
  if (seen == NULL) return SIM_SYSTEM;
  for (int attempt = 0; attempt < READ_ATTEMPTS && (good = read_once(store, card, seen)); attempt++) {
    sum_up(store, seen, card, usage, &dead);
    if (seen->still || (attempt >= SUM_ATTEMPTS && use_sum(store, seen, card, dead, usage))) break;
    sched_yield();
  }
  if (good) usage->peak_bytes = seen->card.peak_bytes;
  free(seen->slots);
  free(seen);
  return good ? SIM_OK : SIM_INVALID;
}
