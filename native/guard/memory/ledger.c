#include "ledger.h"

#include <stddef.h>
#include <string.h>

#include "lock.h"
#include "prim.h"

enum { SHARDS = 16, FIRST_CAPACITY = 128 };

struct shard {
  _Alignas(64) guard_lock lock;
  uint32_t count;
  uint32_t capacity; /* a power of two, or 0 before first use */
  ledger_entry *entries;
};

static struct shard shards[SHARDS];

static uint64_t hash(uint8_t kind, uint64_t key) {
  uint64_t mixed = (key ^ ((uint64_t)kind << 56)) * 0x9E3779B97F4A7C15u;
  return mixed ^ (mixed >> 29);
}

static struct shard *shard_of(uint64_t hashed) { return &shards[(hashed >> 40) % SHARDS]; }

void ledger_reset(void) {
  memset(shards, 0,
         sizeof shards); /* a parent's tables stay mapped: another of its threads may have been changing them */
}

/* The entry, or the free place where it would go.  The table is never full. */
static uint32_t place_of(const struct shard *shard, uint8_t kind, uint64_t key) {
  uint32_t mask = shard->capacity - 1;
  uint32_t at = (uint32_t)hash(kind, key) & mask;
  while (shard->entries[at].kind != LEDGER_NONE && (shard->entries[at].key != key || shard->entries[at].kind != kind)) {
    at = (at + 1) & mask;
  }
  return at;
}

static bool grow(struct shard *shard) {
  struct shard larger = {.capacity = shard->capacity == 0 ? FIRST_CAPACITY : shard->capacity * 2};
  larger.entries = prim_pages(larger.capacity * sizeof *larger.entries);
  if (larger.entries == NULL) return false;
  for (uint32_t i = 0; i < shard->capacity; i++) {
    const ledger_entry *entry = &shard->entries[i];
    if (entry->kind != LEDGER_NONE) larger.entries[place_of(&larger, entry->kind, entry->key)] = *entry;
  }
  prim_unmap(shard->entries, shard->capacity * sizeof *shard->entries);
  shard->entries = larger.entries;
  shard->capacity = larger.capacity;
  return true;
}

/* Empties a place and moves up what had to step aside because of it, so that no tombstones are needed. */
static void remove_at(struct shard *shard, uint32_t hole) {
  uint32_t mask = shard->capacity - 1;
  for (uint32_t at = (hole + 1) & mask; shard->entries[at].kind != LEDGER_NONE; at = (at + 1) & mask) {
    uint32_t home = (uint32_t)hash(shard->entries[at].kind, shard->entries[at].key) & mask;
    if (((at - home) & mask) < ((at - hole) & mask)) continue;
    shard->entries[hole] = shard->entries[at];
    hole = at;
  }
  memset(&shard->entries[hole], 0, sizeof shard->entries[hole]);
  shard->count--;
}

static bool can_die(const ledger_entry *entry) {
  return entry->kind == LEDGER_POINTER || entry->kind == LEDGER_ARRAY || entry->kind == LEDGER_IPC;
}

/* In the same shard, whose lock is held: whoever looks at all entries finds it before or after, and once. */
static void set_aside(struct shard *shard, ledger_entry entry) {
  static uint64_t last;
  do {
    entry.key = LEDGER_ESTATE | __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
  } while (shard_of(hash(entry.kind, entry.key)) != shard);
  shard->entries[place_of(shard, entry.kind, entry.key)] = entry;
  shard->count++;
}

bool ledger_put(const ledger_entry *entry, ledger_entry *old) {
  struct shard *shard = shard_of(hash(entry->kind, entry->key));
  GUARD_HOLD(&shard->lock);
  if (shard->count * 4 >= shard->capacity * 3 && !grow(shard)) return false;
  ledger_entry *place = &shard->entries[place_of(shard, entry->kind, entry->key)];
  *old = *place;
  if (place->kind == LEDGER_NONE) shard->count++;
  *place = *entry;
  if (can_die(old) && (old->owner & LEDGER_ESTATE) != 0) {
    set_aside(shard, *old);
    memset(old, 0, sizeof *old);
  }
  return true;
}

static ledger_entry *find(const struct shard *shard, enum ledger_kind kind, uint64_t key) {
  if (shard->capacity == 0) return NULL;
  ledger_entry *place = &shard->entries[place_of(shard, (uint8_t)kind, key)];
  return place->kind == LEDGER_NONE ? NULL : place;
}

bool ledger_take(enum ledger_kind kind, uint64_t key, ledger_entry *out) {
  struct shard *shard = shard_of(hash((uint8_t)kind, key));
  GUARD_HOLD(&shard->lock);
  ledger_entry *entry = find(shard, kind, key);
  if (entry == NULL) return false;
  *out = *entry;
  remove_at(shard, (uint32_t)(entry - shard->entries));
  return true;
}

bool ledger_get(enum ledger_kind kind, uint64_t key, ledger_entry *out) {
  struct shard *shard = shard_of(hash((uint8_t)kind, key));
  GUARD_HOLD(&shard->lock);
  const ledger_entry *entry = find(shard, kind, key);
  if (entry != NULL) *out = *entry;
  return entry != NULL;
}

uint32_t ledger_refer(enum ledger_kind kind, uint64_t key, int32_t change) {
  struct shard *shard = shard_of(hash((uint8_t)kind, key));
  GUARD_HOLD(&shard->lock);
  ledger_entry *entry = find(shard, kind, key);
  if (entry == NULL) return UINT32_MAX;
  entry->references += (uint32_t)change;
  return entry->references;
}

void ledger_raise(enum ledger_kind kind, uint64_t key, ledger_entry *charge) {
  struct shard *shard = shard_of(hash((uint8_t)kind, key));
  GUARD_HOLD(&shard->lock);
  ledger_entry *entry = find(shard, kind, key);
  if (entry == NULL || entry->bytes >= charge->bytes) return;
  ledger_entry less = *entry;
  entry->bytes = charge->bytes;
  entry->share = charge->share;
  *charge = less;
}

bool ledger_change(const ledger_entry *from, const ledger_entry *to) {
  struct shard *shard = shard_of(hash(from->kind, from->key));
  GUARD_HOLD(&shard->lock);
  ledger_entry *entry = find(shard, (enum ledger_kind)from->kind, from->key);
  if (entry == NULL || entry->account != from->account || entry->bytes != from->bytes || entry->share != from->share)
    return false;
  entry->account = to->account;
  entry->bytes = to->bytes;
  return true;
}

struct wanted {
  enum ledger_kind kind;
  uint64_t owner; /* 0: any */
  uint64_t from, to;
};

static bool take_some(const struct wanted *wanted, ledger_entry *out) {
  for (unsigned s = 0; s < SHARDS; s++) {
    struct shard *shard = &shards[s];
    GUARD_HOLD(&shard->lock);
    for (uint32_t i = 0; i < shard->capacity; i++) {
      const ledger_entry *entry = &shard->entries[i];
      if (entry->kind != wanted->kind || (wanted->owner != 0 && entry->owner != wanted->owner)) continue;
      if (entry->key < wanted->from || entry->key >= wanted->to) continue;
      *out = *entry;
      remove_at(shard, i);
      return true;
    }
  }
  return false;
}

void ledger_bequeath(uint64_t from, uint64_t to) {
  for (unsigned s = 0; s < SHARDS; s++) {
    struct shard *shard = &shards[s];
    GUARD_HOLD(&shard->lock);
    for (uint32_t i = 0; i < shard->capacity; i++) {
      ledger_entry *entry = &shard->entries[i];
      if (can_die(entry) && entry->owner == from) entry->owner = to;
    }
  }
}

bool ledger_take_owned(enum ledger_kind kind, uint64_t owner, ledger_entry *out) {
  return take_some(&(struct wanted){.kind = kind, .owner = owner, .from = 0, .to = UINT64_MAX}, out);
}

bool ledger_take_between(enum ledger_kind kind, uint64_t from, uint64_t to, ledger_entry *out) {
  return take_some(&(struct wanted){.kind = kind, .owner = 0, .from = from, .to = to}, out);
}
