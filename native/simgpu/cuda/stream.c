/* Work is done when it is submitted, so a stream is always idle and an event complete once recorded. */
#include "stream.h"

#include <time.h>

struct CUstream_st {
  object object;
  CUcontext context;
  unsigned int flags;
  int priority;
};

struct CUevent_st {
  object object;
  CUcontext context;
  unsigned int flags;
  bool recorded;
  struct timespec time;
};

#define LEAST_PRIORITY 0
#define GREATEST_PRIORITY (-5)

/* NULL, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD belong to the current context. */
static bool is_default(CUstream stream) { return (uintptr_t)stream <= (uintptr_t)CU_STREAM_PER_THREAD; }

CUresult stream_check(CUstream stream) {
  return is_default(stream) || object_is(stream, OBJECT_STREAM) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult begin(CUstream stream, CUcontext *context) {
  TRY(stream_check(stream));
  TRY(context_current(context));
  if (!is_default(stream)) *context = stream->context;
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority) {
  CUcontext current;
  NEED(phStream != NULL && (flags == CU_STREAM_DEFAULT || flags == CU_STREAM_NON_BLOCKING));
  TRY(context_current(&current));
  CUstream stream = object_new(OBJECT_STREAM, sizeof *stream);
  if (stream == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  stream->context = current;
  stream->flags = flags;
  stream->priority = priority > LEAST_PRIORITY      ? LEAST_PRIORITY
                     : priority < GREATEST_PRIORITY ? GREATEST_PRIORITY
                                                    : priority;
  *phStream = stream;
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags) {
  return cuStreamCreateWithPriority(phStream, Flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream hStream) {
  TRY(driver_ready());
  if (!object_is(hStream, OBJECT_STREAM)) return CUDA_ERROR_INVALID_HANDLE;
  object_delete(hStream);
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream hStream) {
  CUcontext context;
  return begin(hStream, &context);
}

CUresult cuStreamQuery(CUstream hStream) {
  CUcontext context;
  return begin(hStream, &context);
}

CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  CUcontext context;
  (void)Flags;
  TRY(begin(hStream, &context));
  return object_is(hEvent, OBJECT_EVENT) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuStreamGetCtx(CUstream hStream, CUcontext *pctx) {
  NEED(pctx != NULL);
  return begin(hStream, pctx);
}

CUresult cuStreamGetCtx_v2(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx) {
  NEED(pCtx != NULL && pGreenCtx != NULL);
  TRY(begin(hStream, pCtx));
  *pGreenCtx = NULL;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetDevice(CUstream hStream, CUdevice *device) {
  CUcontext context;
  NEED(device != NULL);
  TRY(begin(hStream, &context));
  *device = context->ordinal;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream hStream, unsigned int *flags) {
  CUcontext context;
  NEED(flags != NULL);
  TRY(begin(hStream, &context));
  *flags = is_default(hStream) ? CU_STREAM_DEFAULT : hStream->flags;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream hStream, int *priority) {
  CUcontext context;
  NEED(priority != NULL);
  TRY(begin(hStream, &context));
  *priority = is_default(hStream) ? LEAST_PRIORITY : hStream->priority;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream hStream, unsigned long long *streamId) {
  CUcontext context;
  NEED(streamId != NULL);
  TRY(begin(hStream, &context));
  *streamId = is_default(hStream) ? (unsigned long long)(uintptr_t)hStream : hStream->object.id;
  return CUDA_SUCCESS;
}

CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData, unsigned int flags) {
  CUcontext context;
  NEED(callback != NULL && flags == 0);
  TRY(begin(hStream, &context));
  callback(hStream, CUDA_SUCCESS, userData);
  return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData) {
  CUcontext context;
  NEED(fn != NULL);
  TRY(begin(hStream, &context));
  fn(userData);
  return CUDA_SUCCESS;
}

CUresult cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length, unsigned int flags) {
  CUcontext context;
  (void)dptr;
  (void)length;
  (void)flags;
  return begin(hStream, &context);
}

/* ---- capture: never under way ------------------------------------------------------------------------------------ */

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus) {
  CUcontext context;
  NEED(captureStatus != NULL);
  TRY(begin(hStream, &context));
  *captureStatus = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   size_t *numDependencies_out) {
  if (id_out != NULL) *id_out = 0;
  if (graph_out != NULL) *graph_out = NULL;
  if (dependencies_out != NULL) *dependencies_out = NULL;
  if (numDependencies_out != NULL) *numDependencies_out = 0;
  return cuStreamIsCapturing(hStream, captureStatus_out);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   const CUgraphEdgeData **edgeData_out, size_t *numDependencies_out) {
  if (edgeData_out != NULL) *edgeData_out = NULL;
  return cuStreamGetCaptureInfo_v2(hStream, captureStatus_out, id_out, graph_out, dependencies_out,
                                   numDependencies_out);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  static __thread CUstreamCaptureMode present = CU_STREAM_CAPTURE_MODE_GLOBAL;
  NEED(mode != NULL);
  TRY(driver_ready());
  CUstreamCaptureMode before = present;
  present = *mode;
  *mode = before;
  return CUDA_SUCCESS;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static CUresult event_check(CUevent event) {
  TRY(driver_ready());
  return object_is(event, OBJECT_EVENT) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags) {
  const unsigned int known = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
  CUcontext current;
  NEED(phEvent != NULL && (Flags & ~known) == 0);
  NEED((Flags & CU_EVENT_INTERPROCESS) == 0 || (Flags & CU_EVENT_DISABLE_TIMING) != 0);
  TRY(context_current(&current));
  CUevent event = object_new(OBJECT_EVENT, sizeof *event);
  if (event == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  event->context = current;
  event->flags = Flags;
  *phEvent = event;
  return CUDA_SUCCESS;
}

CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags) {
  CUcontext context;
  (void)flags;
  TRY(event_check(hEvent));
  TRY(begin(hStream, &context));
  if (context->ordinal != hEvent->context->ordinal) return CUDA_ERROR_INVALID_HANDLE;
  clock_gettime(CLOCK_MONOTONIC, &hEvent->time);
  hEvent->recorded = true;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream) { return cuEventRecordWithFlags(hEvent, hStream, 0); }

CUresult cuEventSynchronize(CUevent hEvent) { return event_check(hEvent); }

CUresult cuEventQuery(CUevent hEvent) { return event_check(hEvent); }

CUresult cuEventDestroy_v2(CUevent hEvent) {
  TRY(event_check(hEvent));
  object_delete(hEvent);
  return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime_v2(float *pMilliseconds, CUevent hStart, CUevent hEnd) {
  NEED(pMilliseconds != NULL);
  TRY(event_check(hStart));
  TRY(event_check(hEnd));
  if (!hStart->recorded || !hEnd->recorded || ((hStart->flags | hEnd->flags) & CU_EVENT_DISABLE_TIMING) != 0)
    return CUDA_ERROR_INVALID_HANDLE;
  double seconds = (double)(hEnd->time.tv_sec - hStart->time.tv_sec);
  double nanoseconds = (double)(hEnd->time.tv_nsec - hStart->time.tv_nsec);
  *pMilliseconds = (float)(seconds * 1e3 + nanoseconds / 1e6);
  return CUDA_SUCCESS;
}
