#include "stream.h"

#include "capture.h"
#include "host_work.h"
#include "pool.h"

#define LEAST_PRIORITY 0
#define GREATEST_PRIORITY (-5)

static CUresult make(CUcontext context, queue_kind kind, unsigned int flags, int priority, CUstream *made) {
  CUstream stream = object_new(OBJECT_STREAM, sizeof *stream);
  if (stream == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  stream->context = context;
  stream->flags = flags;
  stream->priority = priority;
  stream->queue = queue_new(context, kind, priority);
  if (stream->queue == NULL) {
    object_delete(stream);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *made = stream;
  return CUDA_SUCCESS;
}

static void discard(CUstream stream) {
  capture_forget_stream(stream);
  queue_delete(stream->queue);
  object_delete(stream);
}

/* ---- default streams --------------------------------------------------------------------------------------------- */

static CUresult legacy_stream(CUcontext context, CUstream *found) {
  *found = __atomic_load_n(&context->legacy, __ATOMIC_ACQUIRE);
  if (*found != NULL) return CUDA_SUCCESS;
  CUstream made;
  TRY(make(context, QUEUE_LEGACY, CU_STREAM_DEFAULT, LEAST_PRIORITY, &made));
  if (__atomic_compare_exchange_n(&context->legacy, found, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    *found = made;
  else
    discard(made);
  return CUDA_SUCCESS;
}

static __thread CUstream own_streams; /* one for each context that the thread used this way */
static pthread_key_t own_key;         /* ends them with their thread */
static pthread_once_t own_once = PTHREAD_ONCE_INIT;

static void end_of_thread(void *first) {
  for (CUstream stream = first, next; stream != NULL; stream = next) {
    next = stream->next;
    if (driver_ready() == CUDA_SUCCESS) discard(stream);
  }
}

static void make_key(void) { pthread_key_create(&own_key, end_of_thread); }

static CUresult per_thread_stream(CUcontext context, CUstream *found) {
  for (*found = own_streams; *found != NULL; *found = (*found)->next)
    if ((*found)->context == context) return CUDA_SUCCESS;
  TRY(make(context, QUEUE_BLOCKING, CU_STREAM_DEFAULT, LEAST_PRIORITY, found));
  (*found)->next = own_streams;
  own_streams = *found;
  pthread_once(&own_once, make_key);
  pthread_setspecific(own_key, own_streams);
  return CUDA_SUCCESS;
}

static __thread bool default_is_own __attribute__((tls_model("initial-exec")));

bool stream_default_of_thread(bool own) {
  bool before = default_is_own;
  default_is_own = own;
  return before;
}

CUresult stream_find(CUstream handle, CUstream *found) {
  CUcontext current;
  TRY(context_current(&current));
  TRY(device_sound(current->ordinal));
  if (handle == NULL && default_is_own) handle = CU_STREAM_PER_THREAD;
  if ((uintptr_t)handle <= (uintptr_t)CU_STREAM_LEGACY) return legacy_stream(current, found);
  if (handle == CU_STREAM_PER_THREAD) return per_thread_stream(current, found);
  *found = handle;
  return object_is(handle, OBJECT_STREAM) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult stream_check(CUstream stream) {
  bool is_default = (uintptr_t)stream <= (uintptr_t)CU_STREAM_PER_THREAD;
  return is_default || object_is(stream, OBJECT_STREAM) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult stream_synchronous(void) {
  CUstream stream;
  TRY(stream_find(NULL, &stream));
  TRY(capture_refuse(stream));
  return queue_wait(stream->queue);
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority) {
  CUcontext current;
  NEED(phStream != NULL && (flags == CU_STREAM_DEFAULT || flags == CU_STREAM_NON_BLOCKING));
  TRY(context_current(&current));
  priority = priority > LEAST_PRIORITY ? LEAST_PRIORITY : priority < GREATEST_PRIORITY ? GREATEST_PRIORITY : priority;
  return make(current, flags == CU_STREAM_NON_BLOCKING ? QUEUE_NON_BLOCKING : QUEUE_BLOCKING, flags, priority,
              phStream);
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags) {
  return cuStreamCreateWithPriority(phStream, Flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream hStream) {
  TRY(driver_ready());
  if (!object_is(hStream, OBJECT_STREAM)) return CUDA_ERROR_INVALID_HANDLE;
  discard(hStream);
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream hStream) {
  CUstream stream;
  TRY(stream_find(hStream, &stream));
  TRY(capture_refuse(stream));
  TRY(queue_wait(stream->queue));
  pool_synchronized();
  return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream hStream) {
  CUstream stream;
  TRY(stream_find(hStream, &stream));
  TRY(capture_refuse(stream));
  return queue_query(stream->queue);
}

CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags) {
  CUstream stream;
  bool captured = false;
  NEED((Flags & ~(unsigned int)CU_EVENT_WAIT_EXTERNAL) == 0);
  TRY(stream_find(hStream, &stream));
  TRY(event_check(hEvent));
  if (capture_any() && (Flags & CU_EVENT_WAIT_EXTERNAL) != 0) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_WAIT_EVENT, .eventWait = {.event = hEvent}};
    TRY(capture_node(stream, &params, &captured));
  } else if (capture_any()) {
    TRY(capture_wait(stream, hEvent, &captured));
  }
  return captured ? CUDA_SUCCESS : event_wait(hEvent, stream);
}

CUresult cuStreamGetCtx(CUstream hStream, CUcontext *pctx) {
  CUstream stream;
  NEED(pctx != NULL);
  TRY(stream_find(hStream, &stream));
  *pctx = stream->context;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx_v2(CUstream hStream, CUcontext *pCtx, CUgreenCtx *pGreenCtx) {
  NEED(pCtx != NULL && pGreenCtx != NULL);
  TRY(cuStreamGetCtx(hStream, pCtx));
  *pGreenCtx = NULL;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetDevice(CUstream hStream, CUdevice *device) {
  CUstream stream;
  NEED(device != NULL);
  TRY(stream_find(hStream, &stream));
  *device = stream->context->ordinal;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream hStream, unsigned int *flags) {
  CUstream stream;
  NEED(flags != NULL);
  TRY(stream_find(hStream, &stream));
  *flags = stream->flags;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream hStream, int *priority) {
  CUstream stream;
  NEED(priority != NULL);
  TRY(stream_find(hStream, &stream));
  *priority = stream->priority;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetId(CUstream hStream, unsigned long long *streamId) {
  CUstream stream;
  NEED(streamId != NULL);
  TRY(stream_find(hStream, &stream));
  *streamId = stream->object.id;
  return CUDA_SUCCESS;
}

CUresult cuStreamAddCallback(CUstream hStream, CUstreamCallback callback, void *userData, unsigned int flags) {
  CUstream stream;
  NEED(callback != NULL && flags == 0);
  TRY(stream_find(hStream, &stream));
  TRY(capture_refuse(stream));
  return host_work_put(stream->queue, &(host_task){.callback = callback, .stream = hStream, .data = userData});
}

CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData) {
  CUstream stream;
  bool captured = false;
  NEED(fn != NULL);
  TRY(stream_find(hStream, &stream));
  if (capture_any()) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_HOST, .host = {.fn = fn, .userData = userData}};
    TRY(capture_node(stream, &params, &captured));
  }
  return captured ? CUDA_SUCCESS : host_work_put(stream->queue, &(host_task){.function = fn, .data = userData});
}

CUresult cuStreamAttachMemAsync(CUstream hStream, CUdeviceptr dptr, size_t length, unsigned int flags) {
  (void)dptr;
  (void)length;
  (void)flags;
  TRY(driver_ready());
  return stream_check(hStream);
}
