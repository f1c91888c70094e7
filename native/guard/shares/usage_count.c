/* The counters of a usage file: charging, giving back, and taking back from the dead.  The protocol is explained in usage.h. */
#include <errno.h>
#include <string.h>

#include "credit.h"
#include "prim.h"
#include "usage.h"

/* Of a recount.  Who wished for one while another was at it relies on that one to see the wish. */
enum { LOOKS = 8, ROUNDS = 32 };

/* The fields of one kind. */
struct fields {
  uint64_t *total; /* in the header */
  uint64_t *used;  /* in a slot, as the next */
  uint64_t *moving;
};

static struct fields fields_of(hami_usage *shared, uint32_t index, enum usage_kind kind) {
  hami_usage_slot *slot = &shared->slots[index];
  if (kind == USAGE_MANAGED)
    return (struct fields){&shared->header.managed_bytes, &slot->managed_bytes, &slot->moving_managed_bytes};
  return (struct fields){&shared->header.used_bytes, &slot->used_bytes, &slot->moving_bytes};
}

static bool swap(uint64_t *field, uint64_t from, uint64_t to) {
  return __atomic_compare_exchange_n(field, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static bool fits(uint64_t used, uint64_t bytes, uint64_t limit) {
  return limit == 0 || (bytes <= limit && used <= limit - bytes);
}

/* Adds to a counter unless that would pass the limit; *reached is then its value. */
static bool raise(uint64_t *total, uint64_t bytes, uint64_t limit, uint64_t *reached) {
  for (;;) {
    uint64_t now = usage_load(total);
    if (!fits(now, bytes, limit)) return false;
    *reached = usage_add(now, bytes);
    if (swap(total, now, *reached)) return true;
  }
}

static void lower(uint64_t *total, uint64_t bytes) {
  uint64_t now;
  do {
    now = usage_load(total);
  } while (bytes != 0 && !swap(total, now, usage_sub(now, bytes)));
}

static void note_peak(hami_usage_header *header, enum usage_kind kind, uint64_t reached) {
  uint64_t peak = usage_load(&header->peak_bytes);
  while (kind == USAGE_DEVICE && __builtin_expect(reached > peak, 0) && !swap(&header->peak_bytes, peak, reached)) {
    peak = usage_load(&header->peak_bytes);
  }
}

/* header.recounts: odd while a recount is under way (or its maker died at it), and a bit for whoever wants another one. */
enum { UNDER_WAY = 1 };
static const uint32_t AGAIN = 0x80000000u;

/* A change of a counter that met a recount may be in it twice: seen in the slot by the recount, and added by its owner. */
uint32_t usage_change_begins(const guard_usage *usage) {
  return __atomic_load_n(&usage->shared->header.recounts, __ATOMIC_SEQ_CST);
}

/* True when it did, or when somebody wishes for a recount. */
static bool has_met(const guard_usage *usage, uint32_t began) {
  uint32_t now = __atomic_load_n(&usage->shared->header.recounts, __ATOMIC_SEQ_CST);
  return now != began || (now & (AGAIN | UNDER_WAY)) != 0;
}

/* ---- the dead ---- */

void usage_lower_total(guard_usage *usage, uint64_t bytes) { lower(&usage->shared->header.used_bytes, bytes); }

/* The counter goes first, as with every release: a recount meanwhile makes it too high and not too low.  Whoever has to do it again
 * because we died at it takes nothing out a second time. */
bool usage_retire(guard_usage *usage, uint32_t index) {
  hami_usage_slot *slot = &usage->shared->slots[index];
  uint32_t began = usage_change_begins(usage);
  if (slot->state != 0 && !credit_bury(usage, index)) return false;
  for (int kind = 0; kind < USAGE_KINDS; kind++) {
    struct fields fields = fields_of(usage->shared, index, (enum usage_kind)kind);
    uint64_t used = usage_load(fields.used), gone = usage_sub(used, usage_load(fields.moving));
    usage_store(fields.moving, used);
    lower(fields.total, gone);
  }
  if (slot->state != 0) __atomic_fetch_add(&usage->shared->header.deaths_total, 1, __ATOMIC_RELAXED);
  memset(slot, 0, sizeof *slot);
  if (has_met(usage, began)) __atomic_fetch_or(&usage->shared->header.recounts, AGAIN, __ATOMIC_SEQ_CST);
  return true;
}

static bool is_empty(const hami_usage_slot *slot) {
  return __atomic_load_n(&slot->state, __ATOMIC_RELAXED) == 0 && usage_load(&slot->used_bytes) == 0 &&
         usage_load(&slot->managed_bytes) == 0;
}

void usage_retire_dead(guard_usage *usage) {
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) {
    if ((int)i == usage->slot || is_empty(&usage->shared->slots[i])) continue;
    if (prim_byte_held(usage->fd, usage_byte(i)) != 0 || prim_byte_take(usage->fd, usage_byte(i)) != 0) continue;
    bool retired = usage_retire(usage, i);
    (void)prim_byte_drop(usage->fd, usage_byte(i));
    if (!retired) return;
  }
}

/* ---- recounts ---- */

struct look {
  uint64_t used[HAMI_USAGE_SLOTS];
  uint64_t allocations[HAMI_USAGE_SLOTS]; /* tells equal figures of different times apart */
  uint64_t credits[HAMI_USAGE_CREDITS];   /* after the slots, as what leaves a slot is in a credit before */
  uint64_t marks[HAMI_USAGE_CREDITS];     /* as allocations */
};

static uint32_t credits_in(const guard_usage *usage, enum usage_kind kind) {
  return kind == USAGE_DEVICE ? credit_count(usage) : 0;
}

static void look_at(guard_usage *usage, enum usage_kind kind, struct look *out) {
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) {
    out->used[i] = usage_load(fields_of(usage->shared, i, kind).used);
    out->allocations[i] = usage_load(&usage->shared->slots[i].allocations_total);
  }
  memset(out->credits, 0, sizeof out->credits);
  memset(out->marks, 0, sizeof out->marks);
  for (uint32_t i = 0; i < credits_in(usage, kind); i++) out->credits[i] = credit_bytes(usage, i, &out->marks[i]);
}

static bool recount_once(guard_usage *usage, enum usage_kind kind, struct look looks[2]) {
  uint64_t *total = fields_of(usage->shared, 0, kind).total;
  uint64_t sum = 0;
  look_at(usage, kind, &looks[0]);
  uint64_t before = usage_load(total);
  look_at(usage, kind, &looks[1]);
  if (memcmp(&looks[0], &looks[1], sizeof looks[0]) != 0) return false;
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) sum = usage_add(sum, looks[0].used[i]);
  for (uint32_t i = 0; i < HAMI_USAGE_CREDITS; i++) sum = usage_add(sum, looks[0].credits[i]);
  return before == sum || swap(total, before, sum);
}

/* True while the counter says more than the slots do: a recount would bring it down. */
static bool is_suspect(guard_usage *usage, enum usage_kind kind) {
  uint64_t sum = 0, mark;
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++)
    sum = usage_add(sum, usage_load(fields_of(usage->shared, i, kind).used));
  for (uint32_t i = 0; i < credits_in(usage, kind); i++) sum = usage_add(sum, credit_bytes(usage, i, &mark));
  return usage_load(fields_of(usage->shared, 0, kind).total) > sum;
}

static void recount_now(guard_usage *usage, struct look looks[2]) {
  uint32_t *recounts = &usage->shared->header.recounts;
  uint32_t was = __atomic_fetch_and(recounts, ~AGAIN, __ATOMIC_SEQ_CST);
  if ((was & UNDER_WAY) == 0) __atomic_fetch_add(recounts, 1, __ATOMIC_SEQ_CST);
  bool done = true;
  for (int kind = 0; kind < USAGE_KINDS; kind++) {
    int tries = 0;
    while (tries < LOOKS && !recount_once(usage, (enum usage_kind)kind, looks)) tries++;
    done = done && tries < LOOKS;
  }
  __atomic_fetch_add(recounts, 1, __ATOMIC_SEQ_CST);
  if (!done) __atomic_fetch_or(recounts, AGAIN, __ATOMIC_SEQ_CST);
}

/* One process at a time, by the byte behind the slots'; who has it does the work that others wished for meanwhile. */
static void recount(guard_usage *usage) {
  uint32_t *recounts = &usage->shared->header.recounts;
  struct look *looks = prim_pages(2 * sizeof *looks);
  if (looks == NULL) return;
  usage_retire_dead(usage);
  __atomic_fetch_or(recounts, AGAIN, __ATOMIC_SEQ_CST);
  for (int round = 0; round < ROUNDS && (__atomic_load_n(recounts, __ATOMIC_SEQ_CST) & AGAIN) != 0; round++) {
    if (prim_byte_take(usage->fd, usage_byte(HAMI_USAGE_SLOTS)) != 0) break;
    recount_now(usage, looks);
    (void)prim_byte_drop(usage->fd, usage_byte(HAMI_USAGE_SLOTS));
  }
  prim_unmap(looks, 2 * sizeof *looks);
}

void usage_change_ends(guard_usage *usage, uint32_t began) {
  if (__builtin_expect(has_met(usage, began), 0)) recount(usage);
}

/* ---- our own ---- */

static bool try_reserve(guard_usage *usage, enum usage_kind kind, uint64_t bytes, uint64_t limit) {
  /* whatever the file says, this process alone does not pass the limit */
  uint64_t own = usage_add(usage->held[kind], kind == USAGE_DEVICE ? usage->credited : 0);
  if (limit != 0 && usage_add(own, bytes) > limit) return false;
  struct fields fields = fields_of(usage->shared, (uint32_t)usage->slot, kind);
  uint32_t began = usage_change_begins(usage);
  usage_store(fields.moving, bytes);
  usage_store(fields.used, usage_add(usage->held[kind], bytes));
  uint64_t reached = 0;
  bool room = raise(fields.total, bytes, limit, &reached);
  if (room) {
    usage->held[kind] = usage_add(usage->held[kind], bytes);
  } else {
    usage_store(fields.used, usage->held[kind]);
  }
  usage_store(fields.moving, 0);
  usage_change_ends(usage, began);
  if (room) note_peak(&usage->shared->header, kind, reached);
  return room;
}

int usage_reserve(guard_usage *usage, enum usage_kind kind, uint64_t bytes, uint64_t limit, guard_error *err) {
  GUARD_HOLD(&usage->lock);
  int result = usage_enter(usage, err);
  if (result < 0) return result;
  hami_usage_slot *slot = &usage->shared->slots[usage->slot];
  usage_store(&slot->allocations_total, usage_load(&slot->allocations_total) + 1);
  bool room = try_reserve(usage, kind, bytes, limit);
  if (!room && bytes <= limit) {
    credit_settle(usage);
    usage_retire_dead(usage);
    room = try_reserve(usage, kind, bytes, limit);
  }
  if (!room && bytes <= limit && is_suspect(usage, kind)) {
    recount(usage);
    room = try_reserve(usage, kind, bytes, limit);
  }
  return room ? 0 : guard_fail(err, ENOMEM, "the share is full");
}

void usage_force(guard_usage *usage, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  if (usage_enter(usage, NULL) < 0) {
    usage->held[USAGE_DEVICE] = usage_add(usage->held[USAGE_DEVICE], bytes);
  } else {
    (void)try_reserve(usage, USAGE_DEVICE, bytes, 0);
  }
}

void usage_give_back(guard_usage *usage, enum usage_kind kind, uint64_t bytes) {
  bytes = bytes < usage->held[kind] ? bytes : usage->held[kind];
  bool entered = usage_enter(usage, NULL) == 0;
  usage->held[kind] -= bytes;
  if (!entered) return;
  struct fields fields = fields_of(usage->shared, (uint32_t)usage->slot, kind);
  uint32_t began = usage_change_begins(usage);
  usage_store(fields.moving, bytes);
  lower(fields.total, bytes);
  usage_store(fields.used, usage->held[kind]);
  usage_store(fields.moving, 0);
  usage_change_ends(usage, began);
}

void usage_release(guard_usage *usage, enum usage_kind kind, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  usage_give_back(usage, kind, bytes);
}

void usage_publish(guard_usage *usage) {
  hami_usage_slot *slot = &usage->shared->slots[usage->slot];
  credit_publish(usage);
  uint32_t began = usage_change_begins(usage);
  uint64_t reached;
  for (int kind = 0; kind < USAGE_KINDS; kind++) {
    struct fields fields = fields_of(usage->shared, (uint32_t)usage->slot, (enum usage_kind)kind);
    uint64_t held = usage->held[kind];
    if (held == 0) continue;
    usage_store(fields.moving, held);
    usage_store(fields.used, held);
    (void)raise(fields.total, held, 0, &reached);
    usage_store(fields.moving, 0);
  }
  usage_store(&slot->overhead_bytes, usage->overhead);
  usage_change_ends(usage, began);
}

uint64_t usage_held(guard_usage *usage) {
  GUARD_HOLD(&usage->lock);
  return usage_add(usage->held[USAGE_DEVICE], usage->credited);
}

void usage_note_overhead(guard_usage *usage, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  usage->overhead = bytes;
  if (usage_enter(usage, NULL) == 0) usage_store(&usage->shared->slots[usage->slot].overhead_bytes, bytes);
}

void usage_count_refusal(guard_usage *usage) {
  GUARD_HOLD(&usage->lock);
  if (usage->shared != NULL) __atomic_fetch_add(&usage->shared->header.refused_total, 1, __ATOMIC_RELAXED);
}
