#include "credit.h"

#include <string.h>

#include "prim.h"

enum { TABLE_BYTE = HAMI_USAGE_SLOTS + 2, TABLE_TRIES = 160 };
static const uint64_t SHORT_NAP_NS = 50000u, LONG_NAP_NS = 2000000u;

enum state { FREE, IN_USE, MADE, ENDED };

static hami_usage_credit *credit_at(const guard_usage *usage, uint32_t index) { return &usage->shared->credits[index]; }

static uint32_t state_of(const hami_usage_credit *credit) { return __atomic_load_n(&credit->state, __ATOMIC_ACQUIRE); }

static void set_state(hami_usage_credit *credit, enum state state) {
  __atomic_store_n(&credit->state, (uint32_t)state, __ATOMIC_RELEASE);
}

static uint64_t bit(uint32_t slot) { return (uint64_t)1 << (slot % 64); }

static bool has_holder(const hami_usage_credit *credit, uint32_t slot) {
  return (usage_load(&credit->holders[slot / 64]) & bit(slot)) != 0;
}

static void set_holder(hami_usage_credit *credit, uint32_t slot, bool holds) {
  uint64_t others = usage_load(&credit->holders[slot / 64]) & ~bit(slot);
  usage_store(&credit->holders[slot / 64], holds ? others | bit(slot) : others);
}

static bool is_held(const hami_usage_credit *credit) {
  uint64_t any = 0;
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS / 64; i++) any |= usage_load(&credit->holders[i]);
  return any != 0;
}

uint32_t credit_count(const guard_usage *usage) {
  if (!usage->has_credits) return 0;
  uint64_t count = usage_load(&usage->shared->header.credits);
  return count < HAMI_USAGE_CREDITS ? (uint32_t)count : HAMI_USAGE_CREDITS;
}

/* ---- the table's lock ---- */

/* What is half made or half ended is so by somebody who died at it: his slot, or the counter, still has it. */
static void tidy(guard_usage *usage) {
  for (uint32_t i = 0; i < credit_count(usage); i++) {
    hami_usage_credit *credit = credit_at(usage, i);
    uint32_t state = state_of(credit);
    if (state != FREE && state != IN_USE) set_state(credit, FREE);
  }
}

/* Its holders wait for nothing and are gone in microseconds, unless the scheduler or a debugger stops one. */
static bool take_table(guard_usage *usage) {
  static uint32_t nap;
  for (int tries = 0; tries < TABLE_TRIES; tries++) {
    if (prim_byte_take(usage->fd, usage_byte(TABLE_BYTE)) == 0) {
      tidy(usage);
      return true;
    }
    prim_futex_wait(&nap, 0, tries < TABLE_TRIES / 4 ? SHORT_NAP_NS : LONG_NAP_NS, false);
  }
  return false;
}

static void leave_table(guard_usage *usage) { (void)prim_byte_drop(usage->fd, usage_byte(TABLE_BYTE)); }

/* ---- what follows, with the table's lock ---- */

static int find(guard_usage *usage, const credit_key *key) {
  for (uint32_t i = 0; i < credit_count(usage); i++) {
    const hami_usage_credit *credit = credit_at(usage, i);
    if (state_of(credit) == IN_USE && memcmp(credit->key, key->words, sizeof credit->key) == 0) return (int)i;
  }
  return CREDIT_NONE;
}

static int find_free(guard_usage *usage) {
  for (uint32_t i = 0; i < HAMI_USAGE_CREDITS; i++)
    if (state_of(credit_at(usage, i)) == FREE) return (int)i;
  return CREDIT_NONE;
}

/* Nobody holds it any more. */
static void end(guard_usage *usage, hami_usage_credit *credit) {
  uint64_t bytes = usage_load(&credit->bytes);
  set_state(credit, ENDED);
  usage_lower_total(usage, bytes);
  set_state(credit, FREE);
}

static void let_go(guard_usage *usage, hami_usage_credit *credit, uint32_t slot) {
  set_holder(credit, slot, false);
  if (!is_held(credit)) end(usage, credit);
}

/* Between the first store and the last both the slot and the credit have the bytes. */
static bool make(guard_usage *usage, uint32_t index, const credit_key *key, uint64_t bytes) {
  hami_usage_header *header = &usage->shared->header;
  hami_usage_slot *slot = &usage->shared->slots[usage->slot];
  hami_usage_credit *credit = credit_at(usage, index);
  uint32_t expected = MADE;
  __atomic_store_n(&credit->generation, credit->generation + 1, __ATOMIC_RELAXED);
  memset(credit->holders, 0, sizeof credit->holders);
  memcpy(credit->key, key->words, sizeof credit->key);
  set_holder(credit, (uint32_t)usage->slot, true);
  credit->payer = (uint32_t)usage->slot;
  usage_store(&credit->bytes, bytes);
  if (usage_load(&header->credits) <= index) usage_store(&header->credits, (uint64_t)index + 1);
  set_state(credit, MADE);
  usage_store(&slot->used_bytes, usage_sub(usage->held[USAGE_DEVICE], bytes));
  if (__atomic_compare_exchange_n(&credit->state, &expected, (uint32_t)IN_USE, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    usage->held[USAGE_DEVICE] = usage_sub(usage->held[USAGE_DEVICE], bytes);
    return true;
  }
  usage_store(&slot->used_bytes, usage->held[USAGE_DEVICE]); /* our lock was lost meanwhile */
  return false;
}

/* ---- as this process holds them ---- */

static struct usage_credit *own_at(guard_usage *usage, int credit) {
  bool valid = usage->credits != NULL && credit >= 0 && credit < (int)HAMI_USAGE_CREDITS;
  return valid && usage->credits[credit].bytes != 0 ? &usage->credits[credit] : NULL;
}

static bool have_own(guard_usage *usage) {
  if (usage->credits == NULL) usage->credits = prim_pages(HAMI_USAGE_CREDITS * sizeof *usage->credits);
  return usage->credits != NULL;
}

static bool is_same(const guard_usage *usage, const struct usage_credit *own) {
  const hami_usage_credit *credit = credit_at(usage, (uint32_t)own->index);
  return state_of(credit) == IN_USE && __atomic_load_n(&credit->generation, __ATOMIC_RELAXED) == own->generation;
}

static int own_free(const guard_usage *usage) {
  for (int i = 0; i < (int)HAMI_USAGE_CREDITS; i++)
    if (usage->credits[i].bytes == 0) return i;
  return CREDIT_NONE;
}

/* Remembers one more reference to the credit in this place of the file; CREDIT_NONE: no room to. */
static int refer(guard_usage *usage, int index) {
  const hami_usage_credit *credit = credit_at(usage, (uint32_t)index);
  for (int i = 0; i < (int)HAMI_USAGE_CREDITS; i++) {
    struct usage_credit *own = &usage->credits[i];
    if (own->bytes == 0 || own->index != index || own->generation != credit->generation) continue;
    own->references++;
    return i;
  }
  int fresh = own_free(usage);
  if (fresh == CREDIT_NONE) return fresh;
  struct usage_credit *own = &usage->credits[fresh];
  *own = (struct usage_credit){
      .references = 1, .generation = credit->generation, .index = index, .bytes = usage_load(&credit->bytes)};
  memcpy(own->key.words, credit->key, sizeof own->key.words);
  usage->credited = usage_add(usage->credited, own->bytes);
  return fresh;
}

static void forget(guard_usage *usage, struct usage_credit *own) {
  usage->credited = usage_sub(usage->credited, own->bytes);
  memset(own, 0, sizeof *own);
}

/* The file's credit is gone: the memory is this process's alone again, as far as that knows. */
static void take_back(guard_usage *usage, struct usage_credit *own) {
  usage->credited = usage_sub(usage->credited, own->bytes);
  usage->held[USAGE_DEVICE] = usage_add(usage->held[USAGE_DEVICE], own->bytes);
  own->index = CREDIT_NONE;
}

/* ---- holding ---- */

static int hold(guard_usage *usage, int index, uint64_t bytes) {
  hami_usage_credit *credit = credit_at(usage, (uint32_t)index);
  uint64_t has = usage_load(&credit->bytes);
  if (has == 0 || (bytes != 0 && has != bytes)) return CREDIT_NONE;
  int own = refer(usage, index);
  if (own != CREDIT_NONE) set_holder(credit, (uint32_t)usage->slot, true);
  return own;
}

static bool enter(guard_usage *usage) {
  return usage_enter(usage, NULL) == 0 && usage->has_credits && have_own(usage) && take_table(usage);
}

int credit_hold(guard_usage *usage, const credit_key *key, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  if (usage_enter(usage, NULL) < 0 || credit_count(usage) == 0 || !enter(usage)) return CREDIT_NONE;
  int index = find(usage, key), own = index != CREDIT_NONE ? hold(usage, index, bytes) : CREDIT_NONE;
  leave_table(usage);
  return own;
}

static int make_anew(guard_usage *usage, const credit_key *key, uint64_t bytes) {
  int index = usage->held[USAGE_DEVICE] >= bytes && own_free(usage) != CREDIT_NONE ? find_free(usage) : CREDIT_NONE;
  return index != CREDIT_NONE && make(usage, (uint32_t)index, key, bytes) ? refer(usage, index) : CREDIT_NONE;
}

int credit_make(guard_usage *usage, enum credit_role role, const credit_key *key, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  if (bytes == 0 || !enter(usage)) return CREDIT_NONE;
  uint32_t began = usage_change_begins(usage);
  int there = find(usage, key);
  if (there != CREDIT_NONE && role == CREDIT_EXPORT) {
    memset(credit_at(usage, (uint32_t)there)->key, 0, sizeof key->words);
    there = CREDIT_NONE;
  }
  int own = there != CREDIT_NONE ? hold(usage, there, bytes) : make_anew(usage, key, bytes);
  leave_table(usage);
  if (there != CREDIT_NONE && own != CREDIT_NONE) usage_give_back(usage, USAGE_DEVICE, bytes);
  usage_change_ends(usage, began);
  return own;
}

/* ---- letting go ---- */

static void settle(guard_usage *usage, struct usage_credit *own) {
  if (own->index == CREDIT_NONE) {
    uint64_t bytes = own->bytes;
    memset(own, 0, sizeof *own);
    usage_give_back(usage, USAGE_DEVICE, bytes);
    return;
  }
  if (usage_enter(usage, NULL) < 0 || own->bytes == 0 || !take_table(usage)) return;
  uint32_t began = usage_change_begins(usage);
  if (is_same(usage, own)) let_go(usage, credit_at(usage, (uint32_t)own->index), (uint32_t)usage->slot);
  forget(usage, own);
  leave_table(usage);
  usage_change_ends(usage, began);
}

void credit_drop(guard_usage *usage, int credit) {
  GUARD_HOLD(&usage->lock);
  struct usage_credit *own = own_at(usage, credit);
  if (own == NULL || own->references == 0 || --own->references != 0) return;
  settle(usage, own);
}

void credit_settle(guard_usage *usage) {
  for (int i = 0; usage->credits != NULL && i < (int)HAMI_USAGE_CREDITS; i++) {
    struct usage_credit *own = &usage->credits[i];
    if (own->bytes != 0 && own->references == 0) settle(usage, own);
  }
}

void credit_tell(guard_usage *usage, int credit, credit_key *key, uint64_t *bytes) {
  GUARD_HOLD(&usage->lock);
  const struct usage_credit *own = own_at(usage, credit);
  *bytes = own != NULL ? own->bytes : 0;
  if (own != NULL) *key = own->key;
}

/* ---- slots that come and go ---- */

bool credit_bury(guard_usage *usage, uint32_t slot) {
  if (credit_count(usage) == 0) return true;
  if (!take_table(usage)) return false;
  for (uint32_t i = 0; i < credit_count(usage); i++) {
    hami_usage_credit *credit = credit_at(usage, i);
    if (state_of(credit) == IN_USE && has_holder(credit, slot)) let_go(usage, credit, slot);
  }
  leave_table(usage);
  return true;
}

void credit_publish(guard_usage *usage) {
  if (usage->credits == NULL || usage->credited == 0) return;
  bool taken = usage->has_credits && take_table(usage);
  for (int i = 0; i < (int)HAMI_USAGE_CREDITS; i++) {
    struct usage_credit *own = &usage->credits[i];
    if (own->bytes == 0 || own->index == CREDIT_NONE) continue;
    if (own->references == 0) {
      forget(usage, own); /* it went with the slot that was lost */
    } else if (taken && is_same(usage, own)) {
      set_holder(credit_at(usage, (uint32_t)own->index), (uint32_t)usage->slot, true);
    } else {
      take_back(usage, own);
    }
  }
  if (taken) leave_table(usage);
}

/* ---- figures ---- */

uint64_t credit_bytes(const guard_usage *usage, uint32_t index, uint64_t *mark) {
  const hami_usage_credit *credit = credit_at(usage, index);
  uint32_t state = state_of(credit);
  *mark = (uint64_t)__atomic_load_n(&credit->generation, __ATOMIC_RELAXED) << 32 | state;
  return state == FREE ? 0 : usage_load(&credit->bytes);
}

static bool lives(const guard_usage *usage, const hami_usage_credit *credit, uint32_t slot) {
  if (slot >= HAMI_USAGE_SLOTS || !has_holder(credit, slot)) return false;
  return (int)slot == usage->slot || prim_byte_held(usage->fd, usage_byte(slot)) != 0;
}

uint32_t credit_payer(const guard_usage *usage, uint32_t index) {
  const hami_usage_credit *credit = credit_at(usage, index);
  if (state_of(credit) == FREE) return HAMI_USAGE_SLOTS;
  if (lives(usage, credit, credit->payer)) return credit->payer;
  for (uint32_t slot = 0; slot < HAMI_USAGE_SLOTS; slot++) {
    if (usage_load(&credit->holders[slot / 64]) == 0)
      slot |= 63;
    else if (lives(usage, credit, slot))
      return slot;
  }
  return HAMI_USAGE_SLOTS;
}
