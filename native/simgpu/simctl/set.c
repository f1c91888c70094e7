/* simctl set: changes a node while processes use it. */
#include <stdio.h>
#include <string.h>

#include "simctl.h"

static void set_card(sim_state *state, uint32_t index, const node_settings *wanted) {
  if (wanted->context_overhead_bytes != NULL)
    __atomic_store_n(&state->cards[index].context_overhead_bytes, *wanted->context_overhead_bytes, __ATOMIC_RELAXED);
  if (wanted->time_slice_ns != NULL)
    __atomic_store_n(&state->engines[index].time_slice_ns, *wanted->time_slice_ns, __ATOMIC_RELAXED);
  if (wanted->driver_memory >= 0)
    __atomic_store_n(&state->cards[index].driver_memory, (uint64_t)wanted->driver_memory, __ATOMIC_RELAXED);
  if (wanted->mps >= 0) __atomic_store_n(&state->engines[index].mps, (uint64_t)wanted->mps, __ATOMIC_RELAXED);
}

/* A kernel that the table has keeps its place.  Programs look at the version, which changes last. */
static bool set_kernel(sim_kernel_table *table, const char *name, uint64_t duration_ns) {
  uint32_t at = 0;
  uint32_t count = table->count <= SIM_MAX_KERNELS ? table->count : SIM_MAX_KERNELS;
  while (at < count && strncmp(table->kernels[at].name, name, sizeof table->kernels[at].name) != 0) at++;
  if (at == SIM_MAX_KERNELS) return false;
  __atomic_store_n(&table->kernels[at].duration_ns, duration_ns, __ATOMIC_RELAXED);
  if (at == count) {
    snprintf(table->kernels[at].name, sizeof table->kernels[at].name, "%s", name);
    __atomic_store_n(&table->count, count + 1, __ATOMIC_RELEASE);
  }
  __atomic_add_fetch(&table->version, 1u, __ATOMIC_RELEASE);
  return true;
}

static bool has_id(const sim_store *store, const sim_card *card, uint32_t index, const char *uuid) {
  return strcmp(card->uuid, uuid) == 0 || mig_has(store, card, index, uuid);
}

int card_of_id(const char *root, const char *uuid, int *card) {
  sim_store store;
  sim_node node;
  sim_status status = sim_store_open(&store, root, false);
  if (status == SIM_OK) status = sim_store_node(&store, &node);
  if (status != SIM_OK) return simctl_fail_status(root, status);
  for (uint32_t i = 0; i < node.card_count; i++) {
    *card = (int)i;
    if (has_id(&store, &node.cards[i], node.index[i], uuid)) return SIMCTL_OK;
  }
  return simctl_fail("%s: no card and no MIG device has this UUID", uuid);
}

int simctl_set(const char *root, const node_settings *wanted) {
  sim_store store;
  sim_node node;
  sim_status status = sim_store_open(&store, root, true);
  if (status == SIM_OK) status = sim_store_node(&store, &node);
  if (status != SIM_OK) return simctl_fail_status(root, status);
  if (wanted->card >= (int)node.card_count)
    return simctl_fail("--card %d: the node has %u cards", wanted->card, node.card_count);
  for (uint32_t i = 0; i < node.card_count; i++)
    if (wanted->card < 0 || (uint32_t)wanted->card == i) set_card(store.map, node.index[i], wanted);
  if (wanted->foreign_ids >= 0)
    __atomic_store_n(&store.map->header.foreign_ids, (uint32_t)wanted->foreign_ids, __ATOMIC_RELAXED);
  for (uint32_t i = 0; i < wanted->kernel_count; i++)
    if (!set_kernel(&store.map->kernels, wanted->kernels[i].name, wanted->kernels[i].duration_ns))
      return simctl_fail("--kernel %s: the table is full", wanted->kernels[i].name);
  return SIMCTL_OK;
}
