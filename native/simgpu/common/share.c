#include "share.h"

#include "lock.h"
#include "word.h"

#define WORDS (SIM_MAX_SLOTS / 64)

static uint64_t bit(uint32_t slot) { return UINT64_C(1) << (slot % 64); }

static bool has_holder(const sim_shared *share, uint32_t slot) {
  return (sim_load(&share->holders[slot / 64]) & bit(slot)) != 0;
}

static void set_holder(sim_shared *share, uint32_t slot, bool holds) {
  uint64_t others = share->holders[slot / 64] & ~bit(slot);
  sim_store_word(&share->holders[slot / 64], holds ? others | bit(slot) : others);
}

static bool lives(const sim_store *store, const sim_shared *share, uint32_t slot) {
  return has_holder(share, slot) && sim_slot_owner(store->fd, slot, NULL);
}

uint32_t share_payer(const sim_store *store, const sim_shared *share) {
  if (share->owner < SIM_MAX_SLOTS && lives(store, share, share->owner)) return share->owner;
  for (uint32_t slot = 0; slot < SIM_MAX_SLOTS; slot++) {
    if (sim_load(&share->holders[slot / 64]) == 0)
      slot |= 63;
    else if (lives(store, share, slot))
      return slot;
  }
  return SIM_MAX_SLOTS;
}

uint64_t share_sum(const sim_state *state, uint32_t card) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < SIM_MAX_SHARES; i++)
    if (state->shares[i].bytes != 0 && state->shares[i].card == card) sum = sim_add(sum, state->shares[i].bytes);
  return sum;
}

uint64_t share_sum_of_dead(const sim_store *store, uint32_t card) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < SIM_MAX_SHARES; i++) {
    const sim_shared *share = &store->map->shares[i];
    uint64_t bytes = sim_load(&share->bytes);
    if (bytes != 0 && share->card == card && share_payer(store, share) == SIM_MAX_SLOTS) sum = sim_add(sum, bytes);
  }
  return sum;
}

/* Ends a share that nobody holds. */
static void end_if_unheld(sim_state *state, sim_shared *share) {
  for (uint32_t i = 0; i < WORDS; i++)
    if (share->holders[i] != 0) return;
  if (share->card < SIM_MAX_CARDS) {
    uint64_t *sum = &state->cards[share->card].used_bytes;
    sim_store_word(sum, sim_subtract(sim_load(sum), share->bytes));
  }
  sim_store_word(&share->bytes, 0);
}

void share_forget_slot(sim_state *state, uint32_t slot) {
  for (uint32_t i = 0; i < SIM_MAX_SHARES; i++) {
    sim_shared *share = &state->shares[i];
    if (share->bytes == 0 || !has_holder(share, slot)) continue;
    set_holder(share, slot, false);
    end_if_unheld(state, share);
  }
}

/* ---- the session's ----------------------------------------------------------------------------------------------- */

static sim_shared *find_free(sim_state *state) {
  for (uint32_t i = 0; i < SIM_MAX_SHARES; i++)
    if (state->shares[i].bytes == 0) return &state->shares[i];
  return NULL;
}

sim_status sim_share_make(sim_session *session, uint32_t card, uint64_t bytes, sim_share_name *name) {
  sim_status status = sim_session_enter(session);
  if (status != SIM_OK) return status;
  sim_state *state = session->store.map;
  sim_shared *made = find_free(state);
  if (made != NULL) {
    for (uint32_t i = 0; i < WORDS; i++) sim_store_word(&made->holders[i], 0);
    set_holder(made, session->slot, true);
    made->card = card;
    made->owner = session->slot;
    made->ticket++;
    *name = (sim_share_name){.index = (uint32_t)(made - state->shares), .ticket = made->ticket};
    session->shares[name->index] = 1;
    /* Death between these two leaves the sums to whoever takes the lock; counted twice for that instant. */
    sim_store_word(&made->bytes, bytes);
    session->used_bytes[card] -= bytes;
    sim_store_word(&state->slots[session->slot].cards[card].used_bytes, session->used_bytes[card]);
  }
  sim_session_leave(session);
  return made != NULL ? SIM_OK : SIM_BUSY;
}

static sim_shared *find(sim_state *state, sim_share_name name) {
  if (name.index >= SIM_MAX_SHARES) return NULL;
  sim_shared *share = &state->shares[name.index];
  return share->bytes != 0 && share->ticket == name.ticket ? share : NULL;
}

sim_status sim_share_hold(sim_session *session, sim_share_name name) {
  sim_status status = sim_session_enter(session);
  if (status != SIM_OK) return status;
  sim_shared *share = find(session->store.map, name);
  /* A share whose holders all died is gone, though nobody may have noticed yet. */
  if (share == NULL || (session->shares[name.index] == 0 && share_payer(&session->store, share) == SIM_MAX_SLOTS)) {
    status = SIM_INVALID;
  } else {
    set_holder(share, session->slot, true);
    session->shares[name.index]++;
  }
  sim_session_leave(session);
  return status;
}

void sim_share_drop(sim_session *session, sim_share_name name) {
  if (sim_session_enter(session) != SIM_OK) return;
  sim_state *state = session->store.map;
  sim_shared *share = find(state, name);
  if (share != NULL && session->shares[name.index] > 0 && --session->shares[name.index] == 0) {
    sim_begin_reaping(&state->header);
    set_holder(share, session->slot, false);
    for (uint32_t slot = 0; slot < SIM_MAX_SLOTS; slot++)
      if (has_holder(share, slot) && !lives(&session->store, share, slot)) set_holder(share, slot, false);
    end_if_unheld(state, share);
    sim_end_reaping(&state->header);
  }
  sim_session_leave(session);
}
