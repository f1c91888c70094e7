#include "capture.h"

#include <stdlib.h>

#define MOST_STREAMS 256

struct capture {
  capture *next;
  CUgraph graph;
  bool graph_is_the_program_s; /* nodes go into a graph that it has */
  unsigned long long id;
  CUstreamCaptureMode mode;
  pthread_t thread;
  bool invalid;
  CUstream streams[MOST_STREAMS]; /* the first began it */
  size_t stream_count;
};

unsigned int captures_open;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static capture *open_captures;
static unsigned long long last_id;
static __thread CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

/* ---- under the mutex --------------------------------------------------------------------------------------------- */

static bool blocks(CUstream stream) { return stream->queue->kind == QUEUE_BLOCKING; }

/* A capture of a stream that the legacy stream would have to wait for. */
static capture *in_the_way(CUstream stream) {
  if (stream->queue->kind != QUEUE_LEGACY) return NULL;
  for (capture *of = open_captures; of != NULL; of = of->next)
    for (size_t i = 0; i < of->stream_count; i++)
      if (of->streams[i]->context == stream->context && blocks(of->streams[i])) return of;
  return NULL;
}

/* The stream's capture, or NULL; an error if work cannot be put into the stream. */
static CUresult find(CUstream stream, capture **found) {
  capture *other = in_the_way(stream);
  *found = stream->capture;
  if (other != NULL) {
    other->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  }
  return *found != NULL && (*found)->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

static capture *find_id(unsigned long long id) {
  capture *of = open_captures;
  while (of != NULL && of->id != id) of = of->next;
  return of;
}

/* Adds nodes to a set of them. */
static CUresult unite(CUgraphNode **set, size_t *count, CUgraphNode const *more, size_t more_count) {
  CUgraphNode *grown = realloc(*set, (*count + more_count + 1) * sizeof *grown);
  if (grown == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  *set = grown;
  for (size_t i = 0; i < more_count; i++) {
    size_t at = 0;
    while (at < *count && grown[at] != more[i]) at++;
    if (at == *count) grown[(*count)++] = more[i];
  }
  return CUDA_SUCCESS;
}

static CUresult join(capture *of, CUstream stream) {
  if (of->stream_count == MOST_STREAMS) return CUDA_ERROR_OUT_OF_MEMORY;
  stream->capture = of;
  stream->tail_count = 0;
  of->streams[of->stream_count++] = stream;
  return CUDA_SUCCESS;
}

static void leave(CUstream stream) {
  free(stream->tails);
  stream->tails = NULL;
  stream->tail_count = 0;
  stream->capture = NULL;
}

static CUresult begin(CUstream stream, CUgraph graph, CUstreamCaptureMode mode, capture **made) {
  if (stream->capture != NULL) return CUDA_ERROR_ILLEGAL_STATE;
  if (stream->queue->kind == QUEUE_LEGACY) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  capture *of = calloc(1, sizeof *of);
  if (of == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  of->graph = graph != NULL ? graph : graph_new();
  of->graph_is_the_program_s = graph != NULL;
  of->id = ++last_id;
  of->mode = mode;
  of->thread = pthread_self();
  of->next = open_captures;
  if (of->graph == NULL) {
    free(of);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  open_captures = of;
  __atomic_add_fetch(&captures_open, 1u, __ATOMIC_RELEASE);
  *made = of;
  return join(of, stream);
}

static void mark_ancestors(CUgraphNode node) {
  if (node->position != 0) return;
  node->position = 1;
  for (size_t i = 0; i < node->dependency_count; i++) mark_ancestors(node->dependencies[i]);
}

/* Whether all that was captured in other streams comes before the end of the first. */
static bool joined(const capture *of) {
  for (CUgraphNode node = of->graph->first; node != NULL; node = node->next) node->position = 0;
  for (size_t i = 0; i < of->streams[0]->tail_count; i++) mark_ancestors(of->streams[0]->tails[i]);
  for (size_t i = 1; i < of->stream_count; i++)
    for (size_t j = 0; j < of->streams[i]->tail_count; j++)
      if (of->streams[i]->tails[j]->position == 0) return false;
  return true;
}

static CUresult end(capture *of, CUgraph *graph) {
  CUresult result = of->invalid  ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                    : joined(of) ? CUDA_SUCCESS
                                 : CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  for (size_t i = 0; i < of->stream_count; i++) leave(of->streams[i]);
  capture **link = &open_captures;
  while (*link != of) link = &(*link)->next;
  *link = of->next;
  __atomic_sub_fetch(&captures_open, 1u, __ATOMIC_RELEASE);
  if (result != CUDA_SUCCESS && !of->graph_is_the_program_s) graph_delete(of->graph);
  *graph = result == CUDA_SUCCESS ? of->graph : NULL;
  free(of);
  return result;
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

CUresult capture_node(CUstream stream, CUgraphNodeParams *params, bool *captured) {
  capture *of;
  CUgraphNode node;
  pthread_mutex_lock(&mutex);
  CUresult result = find(stream, &of);
  *captured = result == CUDA_SUCCESS && of != NULL;
  if (*captured) {
    result = graph_add(of->graph, stream->tails, stream->tail_count, params, &node);
    stream->tail_count = result == CUDA_SUCCESS ? 0 : stream->tail_count;
    if (result == CUDA_SUCCESS) result = unite(&stream->tails, &stream->tail_count, &node, 1);
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult capture_record(CUstream stream, CUevent event, bool *captured) {
  capture *of;
  pthread_mutex_lock(&mutex);
  CUresult result = find(stream, &of);
  *captured = result == CUDA_SUCCESS && of != NULL;
  if (*captured) {
    event->capture_id = of->id;
    event->tail_count = 0;
    result = unite(&event->tails, &event->tail_count, stream->tails, stream->tail_count);
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

static CUresult wait_locked(CUstream stream, CUevent event, bool *captured) {
  capture *of;
  capture *other = find_id(event->capture_id);
  TRY(find(stream, &of));
  *captured = of != NULL || other != NULL;
  if (!*captured) return CUDA_SUCCESS;
  if (other == NULL) {
    if (!event->recorded) return CUDA_SUCCESS;
    of->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  if (other->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (of == NULL) {
    if (stream->queue->kind == QUEUE_LEGACY) {
      other->invalid = true;
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    TRY(join(other, stream));
  } else if (of != other) {
    of->invalid = true;
    other->invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  return unite(&stream->tails, &stream->tail_count, event->tails, event->tail_count);
}

CUresult capture_wait(CUstream stream, CUevent event, bool *captured) {
  pthread_mutex_lock(&mutex);
  CUresult result = wait_locked(stream, event, captured);
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult capture_check_event(CUevent event) {
  if (!capture_any()) return CUDA_SUCCESS;
  pthread_mutex_lock(&mutex);
  capture *of = find_id(event->capture_id);
  if (of != NULL) of->invalid = true;
  pthread_mutex_unlock(&mutex);
  return of != NULL ? CUDA_ERROR_CAPTURED_EVENT : CUDA_SUCCESS;
}

void capture_forget_event(CUevent event) {
  if (event->capture_id == 0) return;
  pthread_mutex_lock(&mutex);
  event->capture_id = 0;
  free(event->tails);
  event->tails = NULL;
  event->tail_count = 0;
  pthread_mutex_unlock(&mutex);
}

void capture_forget_stream(CUstream stream) {
  if (!capture_any()) return;
  pthread_mutex_lock(&mutex);
  capture *of = stream->capture;
  if (of != NULL) {
    CUgraph nothing;
    of->invalid = true;
    if (of->streams[0] == stream) end(of, &nothing);
    for (size_t i = 1; stream->capture != NULL && i < of->stream_count; i++)
      if (of->streams[i] == stream) of->streams[i] = of->streams[--of->stream_count];
    leave(stream);
  }
  pthread_mutex_unlock(&mutex);
}

/* ---- what is not allowed ----------------------------------------------------------------------------------------- */

CUresult capture_refuse(CUstream stream) {
  capture *of;
  if (!capture_any()) return CUDA_SUCCESS;
  pthread_mutex_lock(&mutex);
  CUresult result = find(stream, &of);
  if (of != NULL) {
    of->invalid = true;
    if (result == CUDA_SUCCESS) result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

/* Modes as cuThreadExchangeStreamCaptureMode documents them. */
static bool forbids(const capture *of) {
  bool own = pthread_equal(of->thread, pthread_self()) != 0;
  if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return false;
  if (own) return of->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
  return thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && of->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

CUresult capture_refuse_unsafe(void) {
  CUresult result = CUDA_SUCCESS;
  if (!capture_any()) return CUDA_SUCCESS;
  pthread_mutex_lock(&mutex);
  for (capture *of = open_captures; of != NULL; of = of->next) {
    if (!forbids(of)) continue;
    of->invalid = true;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult capture_refuse_context(CUcontext context) {
  CUresult result = CUDA_SUCCESS;
  if (!capture_any()) return CUDA_SUCCESS;
  pthread_mutex_lock(&mutex);
  for (capture *of = open_captures; of != NULL; of = of->next) {
    if (of->streams[0]->context != context) continue;
    of->invalid = true;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  NEED(mode != NULL && *mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
  TRY(driver_ready());
  CUstreamCaptureMode before = thread_mode;
  thread_mode = *mode;
  *mode = before;
  return CUDA_SUCCESS;
}

/* ---- the driver's functions -------------------------------------------------------------------------------------- */

CUresult cuStreamBeginCapture_v2(CUstream hStream, CUstreamCaptureMode mode) {
  CUstream stream;
  capture *made;
  NEED(mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
  TRY(stream_find(hStream, &stream));
  pthread_mutex_lock(&mutex);
  CUresult result = begin(stream, NULL, mode, &made);
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult cuStreamBeginCapture(CUstream hStream) {
  return cuStreamBeginCapture_v2(hStream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult cuStreamBeginCaptureToGraph(CUstream hStream, CUgraph hGraph, const CUgraphNode *dependencies,
                                     const CUgraphEdgeData *dependencyData, size_t numDependencies,
                                     CUstreamCaptureMode mode) {
  CUstream stream;
  capture *made;
  (void)dependencyData;
  NEED(mode <= CU_STREAM_CAPTURE_MODE_RELAXED && (dependencies != NULL || numDependencies == 0));
  TRY(stream_find(hStream, &stream));
  TRY(graph_check(hGraph));
  for (size_t i = 0; i < numDependencies; i++) TRY(graph_node_check(dependencies[i], hGraph));
  pthread_mutex_lock(&mutex);
  CUresult result = begin(stream, hGraph, mode, &made);
  if (result == CUDA_SUCCESS) result = unite(&stream->tails, &stream->tail_count, dependencies, numDependencies);
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult cuStreamEndCapture(CUstream hStream, CUgraph *phGraph) {
  CUstream stream;
  CUresult result;
  NEED(phGraph != NULL);
  *phGraph = NULL;
  TRY(stream_find(hStream, &stream));
  pthread_mutex_lock(&mutex);
  capture *of = stream->capture;
  if (of == NULL)
    result = CUDA_ERROR_ILLEGAL_STATE;
  else if (of->streams[0] != stream)
    result = CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  else if (of->mode != CU_STREAM_CAPTURE_MODE_RELAXED && pthread_equal(of->thread, pthread_self()) == 0)
    result = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  else
    result = end(of, phGraph);
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   const CUgraphEdgeData **edgeData_out, size_t *numDependencies_out) {
  CUstream stream;
  NEED(captureStatus_out != NULL);
  TRY(stream_find(hStream, &stream));
  pthread_mutex_lock(&mutex);
  const capture *of = stream->capture;
  bool active = of != NULL && !of->invalid;
  CUresult result = in_the_way(stream) != NULL ? CUDA_ERROR_STREAM_CAPTURE_IMPLICIT : CUDA_SUCCESS;
  *captureStatus_out = active       ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                       : of != NULL ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                    : CU_STREAM_CAPTURE_STATUS_NONE;
  if (id_out != NULL) *id_out = of != NULL ? of->id : 0;
  if (graph_out != NULL) *graph_out = active ? of->graph : NULL;
  if (dependencies_out != NULL) *dependencies_out = active ? stream->tails : NULL;
  if (edgeData_out != NULL) *edgeData_out = NULL; /* all edges are of the ordinary kind */
  if (numDependencies_out != NULL) *numDependencies_out = active ? stream->tail_count : 0;
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   size_t *numDependencies_out) {
  return cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, graph_out, dependencies_out, NULL,
                                   numDependencies_out);
}

CUresult cuStreamGetCaptureInfo(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out) {
  return cuStreamGetCaptureInfo_v3(hStream, captureStatus_out, id_out, NULL, NULL, NULL, NULL);
}

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus) {
  return cuStreamGetCaptureInfo_v3(hStream, captureStatus, NULL, NULL, NULL, NULL, NULL);
}

CUresult cuStreamUpdateCaptureDependencies_v2(CUstream hStream, CUgraphNode *dependencies,
                                              const CUgraphEdgeData *dependencyData, size_t numDependencies,
                                              unsigned int flags) {
  CUstream stream;
  (void)dependencyData;
  NEED(flags == CU_STREAM_ADD_CAPTURE_DEPENDENCIES || flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES);
  NEED(dependencies != NULL || numDependencies == 0);
  TRY(stream_find(hStream, &stream));
  pthread_mutex_lock(&mutex);
  capture *of = stream->capture;
  CUresult result = of == NULL    ? CUDA_ERROR_ILLEGAL_STATE
                    : of->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                                  : CUDA_SUCCESS;
  for (size_t i = 0; result == CUDA_SUCCESS && i < numDependencies; i++)
    result = graph_node_check(dependencies[i], of->graph);
  if (result == CUDA_SUCCESS) {
    if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) stream->tail_count = 0;
    result = unite(&stream->tails, &stream->tail_count, dependencies, numDependencies);
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult cuStreamUpdateCaptureDependencies(CUstream hStream, CUgraphNode *dependencies, size_t numDependencies,
                                           unsigned int flags) {
  return cuStreamUpdateCaptureDependencies_v2(hStream, dependencies, NULL, numDependencies, flags);
}
