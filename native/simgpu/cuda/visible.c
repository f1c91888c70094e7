#include "visible.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "capability.h"
#include "faults.h"

static uint64_t speed(const sim_card *card) {
  return (uint64_t)card->sm_count * card->cores_per_sm * card->sm_clock_mhz;
}

/* FASTEST_FIRST, the default: CUDA promises only that the first is the fastest; ties stay in PCI order. */
static void fastest_first(const sim_node *node, uint32_t *order, uint32_t count) {
  for (uint32_t i = 1; i < count; i++) {
    uint32_t card = order[i];
    uint32_t at = i;
    for (; at > 0 && speed(&node->cards[card]) > speed(&node->cards[order[at - 1]]); at--) order[at] = order[at - 1];
    order[at] = card;
  }
}

/* The one card whose UUID begins with the item; -1 for none or several. */
static int by_uuid(const sim_node *node, const uint32_t *order, uint32_t count, const char *item, size_t length) {
  int found = -1;
  for (uint32_t i = 0; i < count; i++) {
    if (strncasecmp(node->cards[order[i]].uuid, item, length) != 0) continue;
    if (found >= 0) return -1;
    found = (int)i;
  }
  return found;
}

static int by_index(const char *item, size_t length, uint32_t count) {
  uint32_t index = 0;
  for (size_t i = 0; i < length; i++) {
    if (!isdigit((unsigned char)item[i]) || index > SIM_MAX_CARDS) return -1;
    index = index * 10 + (uint32_t)(item[i] - '0');
  }
  return length > 0 && index < count ? (int)index : -1;
}

/* ---- MIG devices ------------------------------------------------------------------------------------------------- */

/* Calls `wanted` with each MIG device of the card that this process may use, lowest ids first, until it says yes. */
typedef bool want_device(const sim_card *card, uint32_t instance, const choice *device, const char *item,
                         size_t length);

static bool usable_compute(const sim_store *store, const sim_card *card, uint32_t instance, uint32_t id) {
  return sim_capability_held(store, sim_capability_minor(card->minor_number, instance, SIM_ALL)) &&
         sim_capability_held(store, sim_capability_minor(card->minor_number, instance, id));
}

/* The card's GPU instance with the lowest id above `after`. */
static bool next_instance(const sim_card *card, const sim_mig *mig, int after, uint32_t *place, int *id) {
  bool found = false;
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
    if (mig->instances[i].serial == 0) continue;
    int its = (int)sim_instance_id(sim_geometry_of(card), mig->instances[i].start, mig->instances[i].size);
    if (its <= after || (found && its >= *id)) continue;
    found = true;
    *place = i;
    *id = its;
  }
  return found;
}

static bool find_mig(const sim_store *store, const sim_node *node, uint32_t card, const char *item, size_t length,
                     want_device *wanted, choice *found) {
  sim_condition now;
  uint32_t place = 0;
  const sim_card *facts = &node->cards[card];
  if (sim_condition_read(store, facts, node->index[card], &now) != SIM_OK || !now.mig.enabled) return false;
  for (int id = -1; next_instance(facts, &now.mig, id, &place, &id);)
    for (uint32_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++) {
      *found = (choice){.card = card, .mig = true, .place = place, .id = j, .instance = now.mig.instances[place]};
      if (found->instance.compute[j].serial != 0 && usable_compute(store, facts, (uint32_t)id, j) &&
          wanted(facts, (uint32_t)id, found, item, length))
        return true;
    }
  return false;
}

static bool any_device(const sim_card *card, uint32_t instance, const choice *device, const char *item, size_t length) {
  (void)card, (void)instance, (void)device, (void)item, (void)length;
  return true;
}

/* MIG-<uuid>, also abbreviated, or MIG-GPU-<uuid>/<GPU instance>/<compute instance>. */
static bool named_device(const sim_card *card, uint32_t instance, const choice *device, const char *item,
                         size_t length) {
  char name[96];
  sim_mig_uuid(card, &device->instance, device->id, name);
  if (length <= strlen(name) && strncasecmp(name, item, length) == 0) return true;
  snprintf(name, sizeof name, "MIG-%s/%u/%u", card->uuid, instance, device->id);
  return length == strlen(name) && strncasecmp(name, item, length) == 0;
}

static bool mig_on(const sim_store *store, const sim_node *node, uint32_t card) {
  sim_condition now;
  return sim_condition_read(store, &node->cards[card], node->index[card], &now) == SIM_OK && now.mig.enabled;
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

typedef struct cards {
  const sim_store *store;
  const sim_node *node;
  uint32_t count;
  uint32_t order[SIM_MAX_CARDS];
} cards;

static bool begins(const char *item, size_t length, const char *prefix) {
  return length > strlen(prefix) && strncasecmp(item, prefix, strlen(prefix)) == 0;
}

/* What an item names: false for nothing.  A card in MIG mode stands for its first MIG device, or for none. */
static bool find_item(const cards *all, const char *item, size_t length, choice *found, bool *none) {
  *none = false;
  for (uint32_t i = 0; begins(item, length, "MIG-") && i < all->count; i++)
    if (find_mig(all->store, all->node, all->order[i], item, length, named_device, found)) return true;
  int index = begins(item, length, "GPU-") ? by_uuid(all->node, all->order, all->count, item, length)
                                           : by_index(item, length, all->count);
  if (index < 0) return false;
  uint32_t card = all->order[index];
  if (mig_on(all->store, all->node, card))
    *none = !find_mig(all->store, all->node, card, item, length, any_device, found);
  else
    *found = (choice){.card = card};
  return true;
}

static bool same(const choice *a, const choice *b) {
  return a->card == b->card && a->mig == b->mig && a->place == b->place && a->id == b->id;
}

/* The first item that names nothing ends the list; a device named twice makes all of it void. */
static uint32_t follow(const cards *all, const char *list, choice *chosen) {
  uint32_t number = 0;
  while (number < SIM_MAX_CARDS) {
    bool none;
    list += strspn(list, " \t");
    size_t item = strcspn(list, ",");
    size_t length = item;
    while (length > 0 && isspace((unsigned char)list[length - 1])) length--;
    if (!find_item(all, list, length, &chosen[number], &none)) break;
    for (uint32_t i = 0; !none && i < number; i++)
      if (same(&chosen[i], &chosen[number])) return 0;
    number += !none;
    if (list[item] == '\0') break;
    list += item + 1;
  }
  return number;
}

uint32_t visible_devices(const sim_store *store, const sim_node *node, const char *list, const char *order,
                         choice chosen[SIM_MAX_CARDS]) {
  cards all = {.store = store, .node = node};
  uint32_t number = 0;
  for (uint32_t i = 0; i < node->card_count; i++)
    if (sim_card_visible(store, &node->cards[i]) && sim_faults_read(store, node->index[i]).presence != SIM_GONE)
      all.order[all.count++] = i;
  if (order == NULL || strcmp(order, "PCI_BUS_ID") != 0) fastest_first(node, all.order, all.count);
  if (list != NULL) {
    number = follow(&all, list, chosen);
  } else {
    for (uint32_t i = 0; i < all.count; i++) {
      chosen[number] = (choice){.card = all.order[i]};
      if (!mig_on(store, node, all.order[i]) || find_mig(store, node, all.order[i], "", 0, any_device, &chosen[number]))
        number++;
    }
  }
  /* One MIG device hides everything else. */
  for (uint32_t i = 0; i < number; i++) {
    if (!chosen[i].mig) continue;
    chosen[0] = chosen[i];
    return 1;
  }
  return number;
}
