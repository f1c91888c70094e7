/* simctl set: changes a node while processes use it. */
#include "simctl.h"

int simctl_set(const char *root, int card, uint64_t context_overhead_bytes) {
  sim_store store;
  sim_node node;
  sim_status status = sim_store_open(&store, root, true);
  if (status == SIM_OK) status = sim_store_node(&store, &node);
  if (status != SIM_OK) return simctl_fail_status(root, status);
  if (card >= (int)node.card_count) return simctl_fail("--card %d: the node has %u cards", card, node.card_count);
  for (uint32_t i = 0; i < node.card_count; i++)
    if (card < 0 || (uint32_t)card == i)
      __atomic_store_n(&store.map->cards[node.index[i]].context_overhead_bytes, context_overhead_bytes,
                       __ATOMIC_RELAXED);
  return SIMCTL_OK;
}
