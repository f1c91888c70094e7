/* Who works on which MIG device. */
#include "account.h"
#include "lock.h"

uint32_t sim_instance_word(uint32_t index, uint32_t place, uint32_t id) {
  return 1u << 31 | index << 16 | place << 8 | id;
}

bool sim_instance_within(uint32_t instance, uint32_t index, uint32_t place, uint32_t id) {
  if (instance >> 16 != sim_instance_word(index, 0, 0) >> 16) return false;
  return (place == SIM_ALL || (instance >> 8 & 0xff) == place) && (id == SIM_ALL || (instance & 0xff) == id);
}

bool sim_instance_busy(const sim_session *session, uint32_t index, uint32_t place, uint32_t id) {
  const sim_state *state = session->store.map;
  for (uint32_t i = 0; i < SIM_MAX_SLOTS; i++) {
    const sim_slot *slot = &state->slots[i];
    const sim_slot_card *use = &slot->cards[index];
    if (slot->state == 0) continue;
    bool there = place == SIM_ALL ? use->used_bytes > 0 || use->contexts > 0
                                  : sim_instance_within(slot->instance, index, place, id);
    if (there && sim_slot_owner(session->store.fd, i, NULL)) return true;
  }
  return false;
}
