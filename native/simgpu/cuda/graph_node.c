/* One function for each kind of node, as CUDA has them, over the general form of cuGraphAddNode. */
#include <string.h>

#include "graph.h"

/* A node's parameters, if it is of that type. */
static CUresult params_of(CUgraphNode node, CUgraphNodeType type, CUgraphNodeParams **found) {
  TRY(graph_node_check(node, NULL));
  NEED(node->params.type == type);
  *found = &node->params;
  return CUDA_SUCCESS;
}

CUresult cuGraphAddNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *dependencyData, size_t numDependencies,
                           CUgraphNodeParams *nodeParams) {
  (void)dependencyData;
  return graph_add(hGraph, dependencies, numDependencies, nodeParams, phGraphNode);
}

CUresult cuGraphAddNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                        size_t numDependencies, CUgraphNodeParams *nodeParams) {
  return graph_add(hGraph, dependencies, numDependencies, nodeParams, phGraphNode);
}

CUresult cuGraphNodeSetParams(CUgraphNode hNode, CUgraphNodeParams *nodeParams) {
  NEED(nodeParams != NULL);
  TRY(graph_node_check(hNode, NULL));
  return graph_set_params(hNode, nodeParams);
}

CUresult cuGraphAddEmptyNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                             size_t numDependencies) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EMPTY};
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

/* ---- kernels: the versions of their parameters begin alike ------------------------------------------------------- */

static CUgraphNodeParams kernel_params(const void *given, size_t size) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_KERNEL};
  memcpy(&params.kernel, given, size);
  return params;
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                 size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = kernel_params(nodeParams, sizeof *nodeParams);
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphAddKernelNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = kernel_params(nodeParams, sizeof *nodeParams);
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS *nodeParams) {
  CUgraphNodeParams *found;
  NEED(nodeParams != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_KERNEL, &found));
  memcpy(nodeParams, &found->kernel, sizeof *nodeParams);
  return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
  CUgraphNodeParams *found;
  NEED(nodeParams != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_KERNEL, &found));
  memcpy(nodeParams, &found->kernel, sizeof *nodeParams);
  return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = kernel_params(nodeParams, sizeof *nodeParams);
  return cuGraphNodeSetParams(hNode, &params);
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = kernel_params(nodeParams, sizeof *nodeParams);
  return cuGraphNodeSetParams(hNode, &params);
}

/* ---- copies and writes ------------------------------------------------------------------------------------------- */

static CUgraphNodeParams memcpy_params(const CUDA_MEMCPY3D *given, CUcontext context) {
  return (CUgraphNodeParams){.type = CU_GRAPH_NODE_TYPE_MEMCPY, .memcpy = {.copyCtx = context, .copyParams = *given}};
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_MEMCPY3D *copyParams, CUcontext ctx) {
  NEED(copyParams != NULL);
  CUgraphNodeParams params = memcpy_params(copyParams, ctx);
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode hNode, CUDA_MEMCPY3D *nodeParams) {
  CUgraphNodeParams *found;
  NEED(nodeParams != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_MEMCPY, &found));
  *nodeParams = found->memcpy.copyParams;
  return CUDA_SUCCESS;
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode hNode, const CUDA_MEMCPY3D *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = memcpy_params(nodeParams, NULL);
  return cuGraphNodeSetParams(hNode, &params);
}

static CUgraphNodeParams memset_params(const CUDA_MEMSET_NODE_PARAMS *given, CUcontext context) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMSET};
  memcpy(&params.memset, given, sizeof *given);
  params.memset.ctx = context;
  return params;
}

CUresult cuGraphAddMemsetNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                              size_t numDependencies, const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx) {
  NEED(memsetParams != NULL);
  CUgraphNodeParams params = memset_params(memsetParams, ctx);
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode hNode, CUDA_MEMSET_NODE_PARAMS *nodeParams) {
  CUgraphNodeParams *found;
  NEED(nodeParams != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_MEMSET, &found));
  memcpy(nodeParams, &found->memset, sizeof *nodeParams);
  return CUDA_SUCCESS;
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode hNode, const CUDA_MEMSET_NODE_PARAMS *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = memset_params(nodeParams, NULL);
  return cuGraphNodeSetParams(hNode, &params);
}

/* ---- the host, other graphs, events ------------------------------------------------------------------------------ */

CUresult cuGraphAddHostNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                            size_t numDependencies, const CUDA_HOST_NODE_PARAMS *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_HOST,
                              .host = {.fn = nodeParams->fn, .userData = nodeParams->userData}};
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphHostNodeGetParams(CUgraphNode hNode, CUDA_HOST_NODE_PARAMS *nodeParams) {
  CUgraphNodeParams *found;
  NEED(nodeParams != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_HOST, &found));
  nodeParams->fn = found->host.fn;
  nodeParams->userData = found->host.userData;
  return CUDA_SUCCESS;
}

CUresult cuGraphHostNodeSetParams(CUgraphNode hNode, const CUDA_HOST_NODE_PARAMS *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_HOST,
                              .host = {.fn = nodeParams->fn, .userData = nodeParams->userData}};
  return cuGraphNodeSetParams(hNode, &params);
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                  size_t numDependencies, CUgraph childGraph) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_GRAPH, .graph = {.graph = childGraph}};
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphAddEventRecordNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                   size_t numDependencies, CUevent event) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord = {.event = event}};
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode hNode, CUevent *event_out) {
  CUgraphNodeParams *found;
  NEED(event_out != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_EVENT_RECORD, &found));
  *event_out = found->eventRecord.event;
  return CUDA_SUCCESS;
}

CUresult cuGraphEventRecordNodeSetEvent(CUgraphNode hNode, CUevent event) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord = {.event = event}};
  return cuGraphNodeSetParams(hNode, &params);
}

CUresult cuGraphAddEventWaitNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                 size_t numDependencies, CUevent event) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait = {.event = event}};
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode hNode, CUevent *event_out) {
  CUgraphNodeParams *found;
  NEED(event_out != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_WAIT_EVENT, &found));
  *event_out = found->eventWait.event;
  return CUDA_SUCCESS;
}

CUresult cuGraphEventWaitNodeSetEvent(CUgraphNode hNode, CUevent event) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait = {.event = event}};
  return cuGraphNodeSetParams(hNode, &params);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

CUresult cuGraphAddMemAllocNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                                size_t numDependencies, CUDA_MEM_ALLOC_NODE_PARAMS *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
  memcpy(&params.alloc, nodeParams, sizeof *nodeParams);
  TRY(graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode));
  nodeParams->dptr = params.alloc.dptr;
  return CUDA_SUCCESS;
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode hNode, CUDA_MEM_ALLOC_NODE_PARAMS *params_out) {
  CUgraphNodeParams *found;
  NEED(params_out != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_MEM_ALLOC, &found));
  memcpy(params_out, &found->alloc, sizeof *params_out);
  return CUDA_SUCCESS;
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *phGraphNode, CUgraph hGraph, const CUgraphNode *dependencies,
                               size_t numDependencies, CUdeviceptr dptr) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEM_FREE, .free = {.dptr = dptr}};
  return graph_add(hGraph, dependencies, numDependencies, &params, phGraphNode);
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode hNode, CUdeviceptr *dptr_out) {
  CUgraphNodeParams *found;
  NEED(dptr_out != NULL);
  TRY(params_of(hNode, CU_GRAPH_NODE_TYPE_MEM_FREE, &found));
  *dptr_out = found->free.dptr;
  return CUDA_SUCCESS;
}
