/* What graphs are made of: nodes, edges, types; and the drawing of edges afterwards. */
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

/* Fills a caller's array as cuGraphGetNodes does: the rest of it is cleared, and `count` says how many were written. */
static CUresult give_nodes(CUgraph graph, bool roots_only, CUgraphNode *nodes, size_t *count) {
  size_t found = 0;
  NEED(count != NULL);
  TRY(graph_check(graph));
  for (CUgraphNode node = graph->first; node != NULL; node = node->next) {
    if (roots_only && node->dependency_count > 0) continue;
    if (nodes != NULL && found < *count) nodes[found] = node;
    found++;
  }
  for (size_t i = found; nodes != NULL && i < *count; i++) nodes[i] = NULL;
  if (nodes == NULL || found < *count) *count = found;
  return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes) {
  return give_nodes(hGraph, false, nodes, numNodes);
}

CUresult cuGraphGetRootNodes(CUgraph hGraph, CUgraphNode *rootNodes, size_t *numRootNodes) {
  return give_nodes(hGraph, true, rootNodes, numRootNodes);
}

CUresult cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType *type) {
  NEED(type != NULL);
  TRY(graph_node_check(hNode, NULL));
  *type = hNode->params.type;
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetContainingGraph(CUgraphNode hNode, CUgraph *phGraph) {
  NEED(phGraph != NULL);
  TRY(graph_node_check(hNode, NULL));
  *phGraph = hNode->graph;
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetLocalId(CUgraphNode hNode, unsigned int *nodeId) {
  NEED(nodeId != NULL);
  TRY(graph_node_check(hNode, NULL));
  *nodeId = hNode->local_id;
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetToolsId(CUgraphNode hNode, unsigned long long *toolsNodeId) {
  NEED(toolsNodeId != NULL);
  TRY(graph_node_check(hNode, NULL));
  *toolsNodeId = hNode->object.id;
  return CUDA_SUCCESS;
}

CUresult cuGraphGetId(CUgraph hGraph, unsigned int *graphId) {
  NEED(graphId != NULL);
  TRY(graph_check(hGraph));
  *graphId = (unsigned int)hGraph->object.id;
  return CUDA_SUCCESS;
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode hNode, CUgraph *phGraph) {
  NEED(phGraph != NULL);
  TRY(graph_node_check(hNode, NULL));
  NEED(hNode->params.type == CU_GRAPH_NODE_TYPE_GRAPH);
  *phGraph = hNode->params.graph.graph;
  return CUDA_SUCCESS;
}

/* ---- edges ------------------------------------------------------------------------------------------------------- */

/* A caller's arrays for edges, any of them NULL. */
typedef struct edges {
  CUgraphNode *from, *to;
  CUgraphEdgeData *data;
  size_t room;
  size_t found;
} edges;

static void give_edge(edges *into, CUgraphNode from, CUgraphNode to) {
  size_t at = into->found++;
  if (at >= into->room) return;
  if (into->from != NULL) into->from[at] = from;
  if (into->to != NULL) into->to[at] = to;
  if (into->data != NULL) memset(&into->data[at], 0, sizeof into->data[at]);
}

static void give_dependencies(edges *into, CUgraphNode node) {
  for (size_t i = 0; i < node->dependency_count; i++) give_edge(into, node->dependencies[i], node);
}

/* Clears what is left of the arrays and says how much was written, or is there. */
static CUresult end_edges(edges *into, size_t *count) {
  bool asked = into->from == NULL && into->to == NULL;
  for (size_t i = into->found; i < into->room; i++) {
    if (into->from != NULL) into->from[i] = NULL;
    if (into->to != NULL) into->to[i] = NULL;
  }
  if (asked || into->found < *count) *count = into->found;
  return CUDA_SUCCESS;
}

CUresult cuGraphGetEdges_v2(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edgeData,
                            size_t *numEdges) {
  NEED(numEdges != NULL && (from == NULL) == (to == NULL));
  TRY(graph_check(hGraph));
  edges into = {.from = from, .to = to, .data = edgeData, .room = from != NULL ? *numEdges : 0};
  for (CUgraphNode node = hGraph->first; node != NULL; node = node->next) give_dependencies(&into, node);
  return end_edges(&into, numEdges);
}

CUresult cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, size_t *numEdges) {
  return cuGraphGetEdges_v2(hGraph, from, to, NULL, numEdges);
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode hNode, CUgraphNode *dependencies, CUgraphEdgeData *edgeData,
                                       size_t *numDependencies) {
  NEED(numDependencies != NULL);
  TRY(graph_node_check(hNode, NULL));
  edges into = {.from = dependencies, .data = edgeData, .room = dependencies != NULL ? *numDependencies : 0};
  give_dependencies(&into, hNode);
  return end_edges(&into, numDependencies);
}

CUresult cuGraphNodeGetDependencies(CUgraphNode hNode, CUgraphNode *dependencies, size_t *numDependencies) {
  return cuGraphNodeGetDependencies_v2(hNode, dependencies, NULL, numDependencies);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode hNode, CUgraphNode *dependentNodes, CUgraphEdgeData *edgeData,
                                         size_t *numDependentNodes) {
  NEED(numDependentNodes != NULL);
  TRY(graph_node_check(hNode, NULL));
  edges into = {.to = dependentNodes, .data = edgeData, .room = dependentNodes != NULL ? *numDependentNodes : 0};
  for (CUgraphNode node = hNode->graph->first; node != NULL; node = node->next)
    for (size_t i = 0; i < node->dependency_count; i++)
      if (node->dependencies[i] == hNode) give_edge(&into, hNode, node);
  return end_edges(&into, numDependentNodes);
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode hNode, CUgraphNode *dependentNodes, size_t *numDependentNodes) {
  return cuGraphNodeGetDependentNodes_v2(hNode, dependentNodes, NULL, numDependentNodes);
}

/* ---- changing edges ---------------------------------------------------------------------------------------------- */

static CUresult check_ends(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
  TRY(graph_check(graph));
  NEED(count == 0 || (from != NULL && to != NULL));
  for (size_t i = 0; i < count; i++) {
    TRY(graph_node_check(from[i], graph));
    TRY(graph_node_check(to[i], graph));
    NEED(from[i] != to[i]);
  }
  return CUDA_SUCCESS;
}

static size_t edge_index(CUgraphNode from, CUgraphNode to) {
  size_t i = 0;
  while (i < to->dependency_count && to->dependencies[i] != from) i++;
  return i;
}

CUresult cuGraphAddDependencies_v2(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                   const CUgraphEdgeData *edgeData, size_t numDependencies) {
  (void)edgeData;
  TRY(check_ends(hGraph, from, to, numDependencies));
  for (size_t i = 0; i < numDependencies; i++) NEED(edge_index(from[i], to[i]) == to[i]->dependency_count);
  for (size_t i = 0; i < numDependencies; i++) TRY(graph_depend(to[i], &from[i], 1));
  return CUDA_SUCCESS;
}

CUresult cuGraphAddDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                size_t numDependencies) {
  return cuGraphAddDependencies_v2(hGraph, from, to, NULL, numDependencies);
}

CUresult cuGraphRemoveDependencies_v2(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                      const CUgraphEdgeData *edgeData, size_t numDependencies) {
  (void)edgeData;
  TRY(check_ends(hGraph, from, to, numDependencies));
  for (size_t i = 0; i < numDependencies; i++) NEED(edge_index(from[i], to[i]) < to[i]->dependency_count);
  for (size_t i = 0; i < numDependencies; i++) {
    size_t at = edge_index(from[i], to[i]);
    to[i]->dependencies[at] = to[i]->dependencies[--to[i]->dependency_count];
  }
  return CUDA_SUCCESS;
}

CUresult cuGraphRemoveDependencies(CUgraph hGraph, const CUgraphNode *from, const CUgraphNode *to,
                                   size_t numDependencies) {
  return cuGraphRemoveDependencies_v2(hGraph, from, to, NULL, numDependencies);
}
