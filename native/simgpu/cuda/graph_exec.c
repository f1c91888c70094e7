/* Graphs made ready to be launched.  A launch puts the nodes into the stream one after the other, each behind those that
 * it depends on: branches are not run beside each other. */
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "host_work.h"
#include "transfer.h"

#define KNOWN_FLAGS                                                                       \
  (CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD | \
   CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY)

struct CUgraphExec_st {
  object object;
  unsigned long long flags;
  CUgraph graph;      /* its own clone */
  CUgraphNode *nodes; /* of it and of the graphs in it, in the order of their execution */
  size_t node_count;
  queue *last_queue; /* of its last launch, */
  CUcontext last_context;
  sim_ticket last; /* which the next comes behind */
};

static CUresult exec_check(CUgraphExec exec) {
  TRY(driver_ready());
  return object_is(exec, OBJECT_GRAPH_EXEC) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static CUresult append(CUgraphExec exec, CUgraphNode node) {
  CUgraphNode *grown = realloc(exec->nodes, (exec->node_count + 1) * sizeof *grown);
  if (grown == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  exec->nodes = grown;
  grown[exec->node_count++] = node;
  return CUDA_SUCCESS;
}

static CUresult flatten(CUgraphExec exec, CUgraph graph) {
  CUgraphNode *ordered;
  TRY(graph_order(graph, &ordered));
  CUresult result = CUDA_SUCCESS;
  for (size_t i = 0; result == CUDA_SUCCESS && i < graph->node_count; i++) {
    result = append(exec, ordered[i]);
    if (result == CUDA_SUCCESS && ordered[i]->params.type == CU_GRAPH_NODE_TYPE_GRAPH)
      result = flatten(exec, ordered[i]->params.graph.graph);
  }
  free(ordered);
  return result;
}

static void discard(CUgraphExec exec) {
  if (exec->graph != NULL) graph_delete(exec->graph);
  free(exec->nodes);
  object_delete(exec);
}

static CUresult instantiate(CUgraphExec *made, CUgraph graph, unsigned long long flags) {
  NEED(made != NULL && (flags & ~(unsigned long long)KNOWN_FLAGS) == 0);
  TRY(graph_check(graph));
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) return CUDA_ERROR_NOT_SUPPORTED;
  CUgraphExec exec = object_new(OBJECT_GRAPH_EXEC, sizeof *exec);
  if (exec == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  exec->flags = flags;
  CUresult result = graph_clone(graph, &exec->graph);
  if (result == CUDA_SUCCESS) result = flatten(exec, exec->graph);
  if (result == CUDA_SUCCESS)
    *made = exec;
  else
    discard(exec);
  return result;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags) {
  return instantiate(phGraphExec, hGraph, flags);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode, char *logBuffer,
                               size_t bufferSize) {
  if (phErrorNode != NULL) *phErrorNode = NULL;
  if (logBuffer != NULL && bufferSize > 0) *logBuffer = '\0';
  return instantiate(phGraphExec, hGraph, 0);
}

CUresult cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode, char *logBuffer,
                            size_t bufferSize) {
  return cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams) {
  NEED(instantiateParams != NULL);
  instantiateParams->hErrNode_out = NULL;
  CUresult result = instantiate(phGraphExec, hGraph, instantiateParams->flags);
  instantiateParams->result_out =
      result == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
  return result;
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec) {
  TRY(exec_check(hGraphExec));
  discard(hGraphExec);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecGetFlags(CUgraphExec hGraphExec, cuuint64_t *flags) {
  NEED(flags != NULL);
  TRY(exec_check(hGraphExec));
  *flags = hGraphExec->flags & ~(cuuint64_t)CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD;
  return CUDA_SUCCESS;
}

CUresult cuGraphExecGetId(CUgraphExec hGraphExec, unsigned int *graphId) {
  NEED(graphId != NULL);
  TRY(exec_check(hGraphExec));
  *graphId = (unsigned int)hGraphExec->object.id;
  return CUDA_SUCCESS;
}

/* ---- changing ---------------------------------------------------------------------------------------------------- */

/* The exec's copy of a node of the graph that it was made from. */
static CUresult own_node(CUgraphExec exec, CUgraphNode original, CUgraphNode *found) {
  TRY(exec_check(exec));
  TRY(graph_node_check(original, NULL));
  for (size_t i = 0; i < exec->node_count; i++) {
    *found = exec->nodes[i];
    if ((*found)->original == original) return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

static CUresult set_params(CUgraphExec exec, CUgraphNode original, const CUgraphNodeParams *params) {
  CUgraphNode own;
  TRY(own_node(exec, original, &own));
  TRY(graph_set_params(own, params));
  if (params->type != CU_GRAPH_NODE_TYPE_GRAPH) return CUDA_SUCCESS;
  exec->node_count = 0;
  return flatten(exec, exec->graph);
}

CUresult cuGraphExecNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, CUgraphNodeParams *nodeParams) {
  NEED(nodeParams != NULL);
  return set_params(hGraphExec, hNode, nodeParams);
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec hGraphExec, CUgraphNode hNode,
                                           const CUDA_KERNEL_NODE_PARAMS *nodeParams) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_KERNEL};
  NEED(nodeParams != NULL);
  memcpy(&params.kernel, nodeParams, sizeof *nodeParams);
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_KERNEL};
  NEED(nodeParams != NULL);
  memcpy(&params.kernel, nodeParams, sizeof *nodeParams);
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, const CUDA_MEMCPY3D *copyParams,
                                        CUcontext ctx) {
  NEED(copyParams != NULL);
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMCPY, .memcpy = {.copyCtx = ctx, .copyParams = *copyParams}};
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                        const CUDA_MEMSET_NODE_PARAMS *memsetParams, CUcontext ctx) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMSET};
  NEED(memsetParams != NULL);
  memcpy(&params.memset, memsetParams, sizeof *memsetParams);
  params.memset.ctx = ctx;
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode,
                                      const CUDA_HOST_NODE_PARAMS *nodeParams) {
  NEED(nodeParams != NULL);
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_HOST,
                              .host = {.fn = nodeParams->fn, .userData = nodeParams->userData}};
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec hGraphExec, CUgraphNode hNode, CUgraph childGraph) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_GRAPH, .graph = {.graph = childGraph}};
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphExecEventRecordNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode, CUevent event) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord = {.event = event}};
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphExecEventWaitNodeSetEvent(CUgraphExec hGraphExec, CUgraphNode hNode, CUevent event) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait = {.event = event}};
  return set_params(hGraphExec, hNode, &params);
}

CUresult cuGraphNodeSetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned int isEnabled) {
  CUgraphNode own;
  TRY(own_node(hGraphExec, hNode, &own));
  NEED(own->params.type == CU_GRAPH_NODE_TYPE_KERNEL || own->params.type == CU_GRAPH_NODE_TYPE_MEMCPY ||
       own->params.type == CU_GRAPH_NODE_TYPE_MEMSET);
  own->disabled = isEnabled == 0;
  return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetEnabled(CUgraphExec hGraphExec, CUgraphNode hNode, unsigned int *isEnabled) {
  CUgraphNode own;
  NEED(isEnabled != NULL);
  TRY(own_node(hGraphExec, hNode, &own));
  *isEnabled = !own->disabled;
  return CUDA_SUCCESS;
}

/* What keeps an exec from becoming that of another graph. */
static CUgraphExecUpdateResult difference(const struct CUgraphExec_st *now, const struct CUgraphExec_st *wanted,
                                          CUgraphNode *where) {
  if (now->node_count != wanted->node_count) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
  for (size_t i = 0; i < now->node_count; i++) {
    CUgraphNode old = now->nodes[i];
    CUgraphNode new = wanted->nodes[i];
    *where = new->original;
    if (old->params.type != new->params.type) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    if (old->dependency_count != new->dependency_count) return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    if (old->memory != new->memory) return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  }
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphExecUpdateResultInfo *resultInfo) {
  CUgraphExec wanted;
  NEED(resultInfo != NULL);
  *resultInfo = (CUgraphExecUpdateResultInfo){.result = CU_GRAPH_EXEC_UPDATE_ERROR};
  TRY(exec_check(hGraphExec));
  TRY(instantiate(&wanted, hGraph, hGraphExec->flags));
  CUgraphNode where = NULL;
  resultInfo->result = difference(hGraphExec, wanted, &where);
  bool same = resultInfo->result == CU_GRAPH_EXEC_UPDATE_SUCCESS;
  if (same) {
    struct CUgraphExec_st old = *hGraphExec;
    hGraphExec->graph = wanted->graph;
    hGraphExec->nodes = wanted->nodes;
    wanted->graph = old.graph;
    wanted->nodes = old.nodes;
    /* The nodes by which the program knows this exec are those of the graph that it was made from. */
    for (size_t i = 0; i < old.node_count; i++) {
      hGraphExec->nodes[i]->original = old.nodes[i]->original;
      hGraphExec->nodes[i]->disabled = old.nodes[i]->disabled;
    }
  } else {
    resultInfo->errorNode = where;
  }
  discard(wanted);
  return same ? CUDA_SUCCESS : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}

CUresult cuGraphExecUpdate(CUgraphExec hGraphExec, CUgraph hGraph, CUgraphNode *hErrorNode_out,
                           CUgraphExecUpdateResult *updateResult_out) {
  CUgraphExecUpdateResultInfo info;
  CUresult result = cuGraphExecUpdate_v2(hGraphExec, hGraph, &info);
  if (hErrorNode_out != NULL) *hErrorNode_out = info.errorNode;
  if (updateResult_out != NULL) *updateResult_out = info.result;
  return result;
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

static CUresult execute_kernel(CUgraphNode node, CUstream stream) {
  const CUDA_KERNEL_NODE_PARAMS_v3 *kernel = &node->params.kernel;
  TRY(function_check(kernel->func));
  const unsigned int grid[] = {kernel->gridDimX, kernel->gridDimY, kernel->gridDimZ};
  const unsigned int block[] = {kernel->blockDimX, kernel->blockDimY, kernel->blockDimZ};
  return launch_put(stream, launch_duration_ns(kernel->func, kernel->kernelParams, NULL), grid, block);
}

static CUresult execute(CUgraphNode node, CUstream stream) {
  const CUgraphNodeParams *params = &node->params;
  switch (params->type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: return execute_kernel(node, stream);
    case CU_GRAPH_NODE_TYPE_MEMCPY: return transfer_copy(&params->memcpy.copyParams, stream);
    case CU_GRAPH_NODE_TYPE_MEMSET: return transfer_set(&params->memset, stream);
    case CU_GRAPH_NODE_TYPE_HOST:
      return host_work_put(stream->queue, &(host_task){.function = params->host.fn, .data = params->host.userData});
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD: return event_record(params->eventRecord.event, stream);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT: return event_wait(params->eventWait.event, stream);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC: return graph_memory_allocate(node->memory);
    case CU_GRAPH_NODE_TYPE_MEM_FREE: return graph_memory_free(node->memory);
    default: return CUDA_SUCCESS;
  }
}

/* Launches of one exec follow each other, in whatever streams they are. */
static CUresult follow_last(CUgraphExec exec, CUstream stream) {
  sim_engine *engine;
  if (exec->last_context == NULL || exec->last_queue == stream->queue) return CUDA_SUCCESS;
  if (exec->last.target == 0) return CUDA_SUCCESS;
  if (exec->last_context->ordinal != stream->context->ordinal) return queue_wait_ticket(exec->last_context, exec->last);
  TRY(queue_enter(stream->context, &engine));
  bool done = sim_engine_done(engine, exec->last);
  queue_leave(stream->context);
  if (done) return CUDA_SUCCESS;
  const sim_item wait = {.kind = SIM_ITEM_WAIT, .target = exec->last.target, .value = exec->last.sequence};
  return queue_put(stream->queue, &wait, NULL, NULL);
}

/* Memory that the last launch left allocated is freed, or in the way. */
static CUresult free_leftovers(CUgraphExec exec) {
  for (size_t i = 0; i < exec->node_count; i++) {
    const struct CUgraphNode_st *node = exec->nodes[i];
    if (node->params.type != CU_GRAPH_NODE_TYPE_MEM_ALLOC || !node->memory->allocated) continue;
    NEED((exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) != 0);
    TRY(graph_memory_free(node->memory));
  }
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec hGraphExec, CUstream hStream) {
  CUstream stream;
  bool captured;
  CUgraphNodeParams child = {.type = CU_GRAPH_NODE_TYPE_GRAPH};
  TRY(exec_check(hGraphExec));
  TRY(stream_find(hStream, &stream));
  if (capture_any()) {
    child.graph.graph = hGraphExec->graph;
    TRY(capture_node(stream, &child, &captured));
    if (captured) return CUDA_SUCCESS;
  }
  TRY(free_leftovers(hGraphExec));
  TRY(follow_last(hGraphExec, stream));
  for (size_t i = 0; i < hGraphExec->node_count; i++)
    if (!hGraphExec->nodes[i]->disabled) TRY(execute(hGraphExec->nodes[i], stream));
  hGraphExec->last_context = stream->context;
  hGraphExec->last_queue = stream->queue;
  return queue_last(stream->queue, &hGraphExec->last);
}

CUresult cuGraphUpload(CUgraphExec hGraph, CUstream hStream) {
  CUstream stream;
  TRY(exec_check(hGraph));
  return stream_find(hStream, &stream);
}
