#include "capture.h"

#include <stdatomic.h>

#include "driver.h"
#include "gate.h"

static atomic_bool seen; /* one began, in this process, some time */

void capture_reset(void) { atomic_store_explicit(&seen, false, memory_order_relaxed); }

static bool is_seen(void) { return __builtin_expect(atomic_load_explicit(&seen, memory_order_relaxed), 0); }

bool capture_is_on(CUstream stream) {
  if (!is_seen()) return false;
  cuStreamIsCapturing_fn *ask = DRIVER(cuStreamIsCapturing);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  return ask == NULL || ask(stream, &status) != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

static _Thread_local CUstreamCaptureMode mode __attribute__((tls_model("initial-exec")));

bool capture_relax(void) {
  cuThreadExchangeStreamCaptureMode_fn *exchange = is_seen() ? DRIVER(cuThreadExchangeStreamCaptureMode) : NULL;
  mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  return exchange != NULL && exchange(&mode) == CUDA_SUCCESS;
}

void capture_tighten(bool relaxed) {
  if (relaxed) (void)DRIVER(cuThreadExchangeStreamCaptureMode)(&mode);
}

/* ---- hooks -------------------------------------------------------------------------------------------------------- */

#define BEGIN(name, parameters, arguments)                                 \
  GUARD_EXPORT CUresult name parameters {                                  \
    BEGIN_HOOK(name, CUDA_ERROR_NOT_INITIALIZED);                          \
    if (limited) atomic_store_explicit(&seen, true, memory_order_relaxed); \
    return real arguments;                                                 \
  }

BEGIN(cuStreamBeginCapture, (CUstream stream), (stream))
BEGIN(cuStreamBeginCapture_ptsz, (CUstream stream), (stream))
BEGIN(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode how), (stream, how))
BEGIN(cuStreamBeginCapture_v2_ptsz, (CUstream stream, CUstreamCaptureMode how), (stream, how))
BEGIN(cuStreamBeginCaptureToGraph,
      (CUstream stream, CUgraph graph, const CUgraphNode *dependencies, const CUgraphEdgeData *edges, size_t count,
       CUstreamCaptureMode how),
      (stream, graph, dependencies, edges, count, how))
BEGIN(cuStreamBeginCaptureToGraph_ptsz,
      (CUstream stream, CUgraph graph, const CUgraphNode *dependencies, const CUgraphEdgeData *edges, size_t count,
       CUstreamCaptureMode how),
      (stream, graph, dependencies, edges, count, how))
