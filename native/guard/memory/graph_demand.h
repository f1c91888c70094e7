/* What a graph allocates when it runs, per device.
 *
 * A driver that reuses memory within a graph gives allocations whose lives do not overlap the same addresses, so what the graph needs is
 * the union of the ranges of its allocation nodes, those of child graphs included.
 */
#ifndef GUARD_GRAPH_DEMAND_H
#define GUARD_GRAPH_DEMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "cuda_api.h"

enum { GRAPH_DEVICES = 64 };

struct graph_demand {
  uint64_t devices; /* bit i: something on device i */
  uint64_t bytes[GRAPH_DEVICES];
  bool leaves; /* something that it allocates outlives the launch */
};

/* False when it cannot be known. */
bool graph_demand_of(CUgraph graph, struct graph_demand *out);

#endif
