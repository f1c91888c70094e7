#include "graph_demand.h"

#include <string.h>

#include "driver.h"
#include "prim.h"

struct range {
  uint64_t device, from, to;
};

struct collection {
  struct range *ranges;
  size_t count, room;
  uint64_t balance; /* sum over allocations less that over frees; 0: all is freed again */
};

static uint64_t mix(uint64_t address) {
  address *= 0x9E3779B97F4A7C15u;
  return (address ^ address >> 29) * 0xBF58476D1CE4E5B9u;
}

static bool add(struct collection *all, struct range range) {
  enum { FIRST_ROOM = 128 };
  if (all->count == all->room) {
    size_t room = all->room == 0 ? FIRST_ROOM : all->room * 2;
    struct range *larger = prim_pages(room * sizeof *larger);
    if (larger == NULL) return false;
    if (all->count != 0) memcpy(larger, all->ranges, all->count * sizeof *larger);
    if (all->room != 0) prim_unmap(all->ranges, all->room * sizeof *larger);
    all->ranges = larger;
    all->room = room;
  }
  all->ranges[all->count++] = range;
  return true;
}

static bool add_allocation(struct collection *all, CUgraphNode node) {
  cuGraphMemAllocNodeGetParams_fn *ask = DRIVER(cuGraphMemAllocNodeGetParams);
  CUDA_MEM_ALLOC_NODE_PARAMS params;
  memset(&params, 0, sizeof params);
  if (ask == NULL || ask(node, &params) != CUDA_SUCCESS) return false;
  all->balance += mix(params.dptr);
  int device = params.poolProps.location.id;
  if (params.poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE) return true;
  if (device < 0 || device >= GRAPH_DEVICES || params.bytesize > UINT64_MAX - params.dptr) return false;
  return add(all, (struct range){(uint64_t)device, params.dptr, params.dptr + params.bytesize});
}

static bool add_free(struct collection *all, CUgraphNode node) {
  cuGraphMemFreeNodeGetParams_fn *ask = DRIVER(cuGraphMemFreeNodeGetParams);
  CUdeviceptr pointer;
  if (ask == NULL || ask(node, &pointer) != CUDA_SUCCESS) return false;
  all->balance -= mix(pointer);
  return true;
}

static bool collect(struct collection *all, CUgraph graph);

static bool add_child(struct collection *all, CUgraphNode node) {
  cuGraphChildGraphNodeGetGraph_fn *ask = DRIVER(cuGraphChildGraphNodeGetGraph);
  CUgraph child;
  return ask != NULL && ask(node, &child) == CUDA_SUCCESS && collect(all, child);
}

static bool add_node(struct collection *all, CUgraphNode node) {
  cuGraphNodeGetType_fn *ask = DRIVER(cuGraphNodeGetType);
  CUgraphNodeType type;
  if (ask == NULL || ask(node, &type) != CUDA_SUCCESS) return false;
  switch (type) {
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: return add_allocation(all, node);
    case CU_GRAPH_NODE_TYPE_MEM_FREE: return add_free(all, node);
    case CU_GRAPH_NODE_TYPE_GRAPH: return add_child(all, node);
    default: return true;
  }
}

static bool collect(struct collection *all, CUgraph graph) {
  cuGraphGetNodes_fn *ask = DRIVER(cuGraphGetNodes);
  size_t count = 0;
  if (ask == NULL || ask(graph, NULL, &count) != CUDA_SUCCESS) return false;
  if (count == 0) return true;
  size_t room = count * sizeof(CUgraphNode);
  CUgraphNode *nodes = prim_pages(room);
  bool known = nodes != NULL && ask(graph, nodes, &count) == CUDA_SUCCESS;
  for (size_t i = 0; known && i < count && i < room / sizeof *nodes; i++) known = add_node(all, nodes[i]);
  if (nodes != NULL) prim_unmap(nodes, room);
  return known;
}

static bool is_before(const struct range *a, const struct range *b) {
  return a->device != b->device ? a->device < b->device : a->from < b->from;
}

static void sink(struct range *ranges, size_t at, size_t count) {
  for (size_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && is_before(&ranges[child], &ranges[child + 1])) child++;
    if (!is_before(&ranges[at], &ranges[child])) return;
    struct range moved = ranges[at];
    ranges[at] = ranges[child];
    ranges[child] = moved;
  }
}

/* A heap sort: the C library's may allocate. */
static void sort(struct range *ranges, size_t count) {
  for (size_t i = count / 2; i > 0; i--) sink(ranges, i - 1, count);
  for (size_t left = count; left > 1; left--) {
    struct range largest = ranges[0];
    ranges[0] = ranges[left - 1];
    ranges[left - 1] = largest;
    sink(ranges, 0, left - 1);
  }
}

static void sum(const struct collection *all, struct graph_demand *out) {
  uint64_t end = 0;
  for (size_t i = 0; i < all->count; i++) {
    const struct range *range = &all->ranges[i];
    if (i == 0 || range->device != all->ranges[i - 1].device) end = 0;
    uint64_t from = range->from > end ? range->from : end;
    if (range->to > from) out->bytes[range->device] += range->to - from;
    if (range->to > end) end = range->to;
    out->devices |= (uint64_t)1 << range->device;
  }
}

bool graph_demand_of(CUgraph graph, struct graph_demand *out) {
  struct collection all = {.count = 0};
  memset(out, 0, sizeof *out);
  bool known = collect(&all, graph);
  if (known) {
    sort(all.ranges, all.count);
    sum(&all, out);
    out->leaves = all.balance != 0;
  }
  if (all.room != 0) prim_unmap(all.ranges, all.room * sizeof *all.ranges);
  return known;
}
