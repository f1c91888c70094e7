/* Graphs: nodes with their parameters and dependencies, and what is made of them to be launched.
 *
 * A graph belongs to whoever uses it, as documented: calls on one graph are not to be made at once by several threads.
 * A node is a CUgraphNodeParams, in the form of cuGraphAddNode; the older functions translate to and from it.
 */
#ifndef SIMGPU_CUDA_GRAPH_H
#define SIMGPU_CUDA_GRAPH_H

#include "event.h"
#include "launch.h"

/* Memory of a graph: an address that is its own as long as anybody knows of it, and memory behind it while allocated. */
typedef struct graph_memory {
  unsigned int references; /* of nodes, of graphs that may be launched */
  CUdevice ordinal;
  uintptr_t base;
  size_t size;
  bool allocated;
} graph_memory;

struct CUgraphNode_st {
  object object;
  CUgraph graph;
  CUgraphNode next;
  unsigned int local_id;
  CUgraphNodeParams params; /* a child graph's is the node's own clone */
  bool disabled;            /* in a graph to be launched */
  uint64_t argument;        /* of simgpu's own kernel */
  void *arguments[1];       /* as kernelParams points to it */
  graph_memory *memory;     /* of an allocation, or of a free of one that a graph made */
  CUgraphNode original;     /* what it is a clone of */
  size_t position;          /* in an order, or among clones, while one is made */
  CUgraphNode *dependencies;
  size_t dependency_count;
};

struct CUgraph_st {
  object object;
  CUgraphNode first;
  CUgraphNode *end; /* where the next node is linked */
  size_t node_count;
  unsigned int last_local_id;
  CUgraphNode owner; /* of which this is the embedded graph */
};

CUresult graph_check(CUgraph graph);
CUresult graph_node_check(CUgraphNode node, CUgraph of);

CUgraph graph_new(void);
void graph_delete(CUgraph graph);
CUresult graph_clone(CUgraph from, CUgraph *made);

/* Adds a node; an allocation gets its address here, and `params` is told. */
CUresult graph_add(CUgraph graph, const CUgraphNode *dependencies, size_t count, CUgraphNodeParams *params,
                   CUgraphNode *made);

/* Gives the node other parameters of the same type. */
CUresult graph_set_params(CUgraphNode node, const CUgraphNodeParams *params);

/* Copies parameters between nodes of one type; what they own is cloned. */
CUresult graph_copy_params(CUgraphNode to, CUgraphNode from);

/* Makes the node depend on others. */
CUresult graph_depend(CUgraphNode node, const CUgraphNode *dependencies, size_t count);

/* The nodes in an order in which each comes after those it depends on, to be freed by the caller;
 * CUDA_ERROR_INVALID_VALUE for a cycle. */
CUresult graph_order(CUgraph graph, CUgraphNode **ordered);

/* ---- graph_memory.c ---- */

CUresult graph_memory_new(CUdevice ordinal, size_t size, graph_memory **made);
graph_memory *graph_memory_retain(graph_memory *memory);
void graph_memory_release(graph_memory *memory);

/* The memory of a graph that begins at the address, or NULL. */
graph_memory *graph_memory_at(CUdeviceptr address);

/* Puts memory behind the address, from what the device keeps for graphs or from the card. */
CUresult graph_memory_allocate(graph_memory *memory);

/* Gives it back to what the device keeps for graphs; CUDA_ERROR_INVALID_VALUE if it is not allocated. */
CUresult graph_memory_free(graph_memory *memory);

#endif
