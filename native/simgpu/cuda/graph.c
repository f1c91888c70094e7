#include "graph.h"

#include <stdlib.h>

#define NOT_PLACED SIZE_MAX

CUresult graph_check(CUgraph graph) {
  TRY(driver_ready());
  return object_is(graph, OBJECT_GRAPH) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_node_check(CUgraphNode node, CUgraph of) {
  TRY(driver_ready());
  NEED(object_is(node, OBJECT_GRAPH_NODE) && (of == NULL || node->graph == of));
  return CUDA_SUCCESS;
}

CUgraph graph_new(void) {
  CUgraph graph = object_new(OBJECT_GRAPH, sizeof *graph);
  if (graph != NULL) graph->end = &graph->first;
  return graph;
}

/* ---- parameters -------------------------------------------------------------------------------------------------- */

/* Lets go of what a node owns besides itself. */
static void drop_params(CUgraphNode node) {
  if (node->params.type == CU_GRAPH_NODE_TYPE_GRAPH && node->params.graph.graph != NULL)
    graph_delete(node->params.graph.graph);
  if (node->memory != NULL) graph_memory_release(node->memory);
  node->memory = NULL;
}

/* The program's arguments are copied where they are known: those of simgpu's own kernel. */
static CUresult take_kernel(CUgraphNode node) {
  CUDA_KERNEL_NODE_PARAMS_v3 *kernel = &node->params.kernel;
  NEED(kernel->kernelParams == NULL || kernel->extra == NULL);
  if (kernel->func == NULL) kernel->func = (CUfunction)kernel->kern;
  const unsigned int grid[] = {kernel->gridDimX, kernel->gridDimY, kernel->gridDimZ};
  const unsigned int block[] = {kernel->blockDimX, kernel->blockDimY, kernel->blockDimZ};
  TRY(launch_check(kernel->func, grid, block));
  bool sleeps = kernel->func->sleeps;
  node->argument = sleeps ? launch_duration_ns(kernel->func, kernel->kernelParams, kernel->extra) : 0;
  node->arguments[0] = &node->argument;
  kernel->kernelParams = sleeps ? node->arguments : NULL;
  kernel->extra = NULL;
  return CUDA_SUCCESS;
}

static CUresult take_child(CUgraphNode node) {
  CUgraph child = node->params.graph.graph;
  TRY(graph_check(child));
  if (node->params.graph.ownership != CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE)
    TRY(graph_clone(child, &node->params.graph.graph));
  else
    NEED(child->owner == NULL);
  node->params.graph.graph->owner = node;
  return CUDA_SUCCESS;
}

static CUresult take_allocation(CUgraphNode node) {
  CUDA_MEM_ALLOC_NODE_PARAMS_v2 *alloc = &node->params.alloc;
  gpu *found;
  NEED(alloc->bytesize > 0 && alloc->poolProps.allocType == CU_MEM_ALLOCATION_TYPE_PINNED);
  NEED(alloc->poolProps.handleTypes == CU_MEM_HANDLE_TYPE_NONE);
  if (alloc->poolProps.location.type != CU_MEM_LOCATION_TYPE_DEVICE) return CUDA_ERROR_NOT_SUPPORTED;
  TRY(driver_device(alloc->poolProps.location.id, &found));
  alloc->accessDescs = NULL;
  alloc->accessDescCount = 0;
  TRY(graph_memory_new(alloc->poolProps.location.id, alloc->bytesize, &node->memory));
  alloc->dptr = node->memory->base;
  return CUDA_SUCCESS;
}

static CUresult take_free(CUgraphNode node) {
  graph_memory *memory = graph_memory_at(node->params.free.dptr);
  NEED(memory != NULL);
  node->memory = graph_memory_retain(memory);
  return CUDA_SUCCESS;
}

/* Checks the parameters and makes the node's own what it must not borrow. */
static CUresult take_params(CUgraphNode node) {
  switch (node->params.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: return take_kernel(node);
    case CU_GRAPH_NODE_TYPE_GRAPH: return take_child(node);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: return take_allocation(node);
    case CU_GRAPH_NODE_TYPE_MEM_FREE: return take_free(node);
    case CU_GRAPH_NODE_TYPE_HOST: NEED(node->params.host.fn != NULL); return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT: return event_check(node->params.eventWait.event);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD: return event_check(node->params.eventRecord.event);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
    case CU_GRAPH_NODE_TYPE_MEMSET:
    case CU_GRAPH_NODE_TYPE_EMPTY: return CUDA_SUCCESS;
    default: return CUDA_ERROR_NOT_SUPPORTED;
  }
}

CUresult graph_set_params(CUgraphNode node, const CUgraphNodeParams *params) {
  struct CUgraphNode_st other = {.params = *params};
  NEED(params->type == node->params.type);
  if (params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || params->type == CU_GRAPH_NODE_TYPE_MEM_FREE)
    return CUDA_ERROR_NOT_SUPPORTED;
  TRY(take_params(&other));
  drop_params(node);
  node->params = other.params;
  node->argument = other.argument;
  node->arguments[0] = &node->argument;
  if (params->type == CU_GRAPH_NODE_TYPE_KERNEL && node->params.kernel.kernelParams != NULL)
    node->params.kernel.kernelParams = node->arguments;
  if (params->type == CU_GRAPH_NODE_TYPE_GRAPH) node->params.graph.graph->owner = node;
  return CUDA_SUCCESS;
}

CUresult graph_copy_params(CUgraphNode to, CUgraphNode from) {
  to->params = from->params;
  to->argument = from->argument;
  to->arguments[0] = &to->argument;
  if (from->memory != NULL) to->memory = graph_memory_retain(from->memory);
  if (to->params.type == CU_GRAPH_NODE_TYPE_KERNEL && to->params.kernel.kernelParams != NULL)
    to->params.kernel.kernelParams = to->arguments;
  if (to->params.type != CU_GRAPH_NODE_TYPE_GRAPH) return CUDA_SUCCESS;
  to->params.graph.graph = NULL;
  TRY(graph_clone(from->params.graph.graph, &to->params.graph.graph));
  to->params.graph.graph->owner = to;
  return CUDA_SUCCESS;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static void link_node(CUgraph graph, CUgraphNode node) {
  node->graph = graph;
  node->local_id = ++graph->last_local_id;
  *graph->end = node;
  graph->end = &node->next;
  graph->node_count++;
}

static void discard_node(CUgraphNode node) {
  drop_params(node);
  free(node->dependencies);
  object_delete(node);
}

static bool depends(CUgraphNode node, CUgraphNode on) {
  for (size_t i = 0; i < node->dependency_count; i++)
    if (node->dependencies[i] == on) return true;
  return false;
}

CUresult graph_depend(CUgraphNode node, const CUgraphNode *dependencies, size_t count) {
  if (count == 0) return CUDA_SUCCESS;
  CUgraphNode *grown = realloc(node->dependencies, (node->dependency_count + count) * sizeof *grown);
  if (grown == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  node->dependencies = grown;
  for (size_t i = 0; i < count; i++)
    if (!depends(node, dependencies[i])) grown[node->dependency_count++] = dependencies[i];
  return CUDA_SUCCESS;
}

CUresult graph_add(CUgraph graph, const CUgraphNode *dependencies, size_t count, CUgraphNodeParams *params,
                   CUgraphNode *made) {
  NEED(made != NULL && params != NULL && (dependencies != NULL || count == 0));
  TRY(graph_check(graph));
  for (size_t i = 0; i < count; i++) TRY(graph_node_check(dependencies[i], graph));
  CUgraphNode node = object_new(OBJECT_GRAPH_NODE, sizeof *node);
  if (node == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  node->params = *params;
  CUresult result = take_params(node);
  if (result == CUDA_SUCCESS) result = graph_depend(node, dependencies, count);
  if (result != CUDA_SUCCESS) {
    if (node->params.type == CU_GRAPH_NODE_TYPE_GRAPH) node->params.type = CU_GRAPH_NODE_TYPE_EMPTY;
    discard_node(node);
    return result;
  }
  link_node(graph, node);
  if (params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC) params->alloc.dptr = node->params.alloc.dptr;
  if (params->type == CU_GRAPH_NODE_TYPE_GRAPH) params->graph.graph = node->params.graph.graph;
  *made = node;
  return CUDA_SUCCESS;
}

void graph_delete(CUgraph graph) {
  for (CUgraphNode node = graph->first, next; node != NULL; node = next) {
    next = node->next;
    discard_node(node);
  }
  object_delete(graph);
}

CUresult cuGraphDestroyNode(CUgraphNode hNode) {
  TRY(graph_node_check(hNode, NULL));
  CUgraph graph = hNode->graph;
  CUgraphNode *link = &graph->first;
  while (*link != hNode) link = &(*link)->next;
  *link = hNode->next;
  if (graph->end == &hNode->next) graph->end = link;
  graph->node_count--;
  for (CUgraphNode other = graph->first; other != NULL; other = other->next)
    for (size_t i = 0; i < other->dependency_count; i++)
      if (other->dependencies[i] == hNode) other->dependencies[i--] = other->dependencies[--other->dependency_count];
  discard_node(hNode);
  return CUDA_SUCCESS;
}

/* ---- whole graphs ------------------------------------------------------------------------------------------------ */

static CUgraphNode clone_of(CUgraph clone, CUgraphNode original) {
  CUgraphNode node = clone->first;
  while (node != NULL && node->original != original) node = node->next;
  return node;
}

static CUresult clone_edges(CUgraphNode node, CUgraphNode copy, CUgraphNode const *copies) {
  if (node->dependency_count == 0) return CUDA_SUCCESS;
  copy->dependencies = malloc(node->dependency_count * sizeof *copy->dependencies);
  if (copy->dependencies == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  for (size_t i = 0; i < node->dependency_count; i++)
    copy->dependencies[copy->dependency_count++] = copies[node->dependencies[i]->position];
  return CUDA_SUCCESS;
}

static CUresult clone_nodes(CUgraph from, CUgraph into, CUgraphNode *copies) {
  size_t count = 0;
  for (CUgraphNode node = from->first; node != NULL; node = node->next) {
    CUgraphNode copy = object_new(OBJECT_GRAPH_NODE, sizeof *copy);
    if (copy == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    copy->original = node;
    link_node(into, copy);
    TRY(graph_copy_params(copy, node));
    node->position = count;
    copies[count++] = copy;
  }
  for (CUgraphNode node = from->first; node != NULL; node = node->next)
    TRY(clone_edges(node, copies[node->position], copies));
  return CUDA_SUCCESS;
}

CUresult graph_clone(CUgraph from, CUgraph *made) {
  CUgraph clone = graph_new();
  if (clone == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  CUgraphNode *copies = calloc(from->node_count + 1, sizeof *copies);
  CUresult result = copies != NULL ? clone_nodes(from, clone, copies) : CUDA_ERROR_OUT_OF_MEMORY;
  free(copies);
  if (result == CUDA_SUCCESS)
    *made = clone;
  else
    graph_delete(clone);
  return result;
}

static bool free_to_go(CUgraphNode node) {
  for (size_t i = 0; i < node->dependency_count; i++)
    if (node->dependencies[i]->position == NOT_PLACED) return false;
  return true;
}

CUresult graph_order(CUgraph graph, CUgraphNode **ordered) {
  CUgraphNode *found = calloc(graph->node_count + 1, sizeof *found);
  size_t count = 0;
  if (found == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  for (CUgraphNode node = graph->first; node != NULL; node = node->next) node->position = NOT_PLACED;
  for (size_t progress = 1; count < graph->node_count && progress > 0;) {
    progress = count;
    for (CUgraphNode node = graph->first; node != NULL; node = node->next) {
      if (node->position != NOT_PLACED || !free_to_go(node)) continue;
      node->position = count;
      found[count++] = node;
    }
    progress = count - progress; /* none: a cycle */
  }
  if (count < graph->node_count) {
    free(found);
    return CUDA_ERROR_INVALID_VALUE;
  }
  *ordered = found;
  return CUDA_SUCCESS;
}

CUresult cuGraphCreate(CUgraph *phGraph, unsigned int flags) {
  NEED(phGraph != NULL && flags == 0);
  TRY(driver_ready());
  *phGraph = graph_new();
  return *phGraph != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuGraphDestroy(CUgraph hGraph) {
  TRY(graph_check(hGraph));
  NEED(hGraph->owner == NULL);
  graph_delete(hGraph);
  return CUDA_SUCCESS;
}

CUresult cuGraphClone(CUgraph *phGraphClone, CUgraph originalGraph) {
  NEED(phGraphClone != NULL);
  TRY(graph_check(originalGraph));
  return graph_clone(originalGraph, phGraphClone);
}

CUresult cuGraphNodeFindInClone(CUgraphNode *phNode, CUgraphNode hOriginalNode, CUgraph hClonedGraph) {
  NEED(phNode != NULL);
  TRY(graph_node_check(hOriginalNode, NULL));
  TRY(graph_check(hClonedGraph));
  CUgraphNode found = clone_of(hClonedGraph, hOriginalNode);
  NEED(found != NULL);
  *phNode = found;
  return CUDA_SUCCESS;
}
