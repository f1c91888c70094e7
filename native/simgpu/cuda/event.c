#include "event.h"

#include "capture.h"
#include "host_work.h"
#include "pool.h"
#include "stream.h"

CUresult event_check(CUevent event) {
  TRY(driver_ready());
  return object_is(event, OBJECT_EVENT) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

void event_begin(CUevent event, queue *of, sim_ticket ticket) {
  __atomic_store_n(&event->complete, false, __ATOMIC_RELAXED);
  event->queue = of;
  event->ticket = ticket;
  __atomic_store_n(&event->recorded, true, __ATOMIC_RELEASE);
}

void event_complete(CUevent event, uint64_t time_ns) {
  event->queue = NULL;
  event->time_ns = time_ns;
  __atomic_store_n(&event->complete, true, __ATOMIC_RELEASE);
}

static bool settled(CUevent event) {
  return __atomic_load_n(&event->complete, __ATOMIC_ACQUIRE) || !__atomic_load_n(&event->recorded, __ATOMIC_ACQUIRE);
}

CUresult event_look(CUevent event, bool *complete) {
  sim_engine *engine;
  if (!settled(event)) {
    TRY(queue_enter(event->context, &engine));
    queue_harvest(engine, event);
    queue_leave(event->context);
  }
  *complete = settled(event);
  return CUDA_SUCCESS;
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

/* The event waits for a mark no more, if it did. */
static CUresult forget_mark(CUevent event) {
  sim_engine *engine;
  if (settled(event)) return CUDA_SUCCESS;
  TRY(queue_enter(event->context, &engine));
  queue_forget(event);
  queue_leave(event->context);
  return CUDA_SUCCESS;
}

CUresult event_record(CUevent event, CUstream stream) {
  if (stream->context->ordinal != event->context->ordinal) return CUDA_ERROR_INVALID_HANDLE;
  if (queue_query(stream->queue) != CUDA_SUCCESS)
    return queue_put(stream->queue, &(sim_item){.kind = SIM_ITEM_MARK}, event, NULL);
  TRY(forget_mark(event));
  event_complete(event, sim_clock_ns());
  __atomic_store_n(&event->recorded, true, __ATOMIC_RELEASE);
  return CUDA_SUCCESS;
}

CUresult event_wait(CUevent event, CUstream stream) {
  bool complete;
  TRY(event_look(event, &complete));
  if (complete) return CUDA_SUCCESS;
  if (event->context->ordinal != stream->context->ordinal) return host_work_wait(stream->queue, event);
  const sim_item wait = {.kind = SIM_ITEM_WAIT, .target = event->ticket.target, .value = event->ticket.sequence};
  return queue_put(stream->queue, &wait, NULL, NULL);
}

CUresult cuEventRecordWithFlags(CUevent hEvent, CUstream hStream, unsigned int flags) {
  CUstream stream;
  bool captured = false;
  NEED((flags & ~(unsigned int)CU_EVENT_RECORD_EXTERNAL) == 0);
  TRY(event_check(hEvent));
  TRY(stream_find(hStream, &stream));
  if (capture_any() && (flags & CU_EVENT_RECORD_EXTERNAL) != 0) {
    CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_EVENT_RECORD, .eventRecord = {.event = hEvent}};
    TRY(capture_node(stream, &params, &captured));
  } else if (capture_any()) {
    TRY(capture_record(stream, hEvent, &captured));
  }
  if (captured) return CUDA_SUCCESS;
  capture_forget_event(hEvent);
  return event_record(hEvent, stream);
}

CUresult cuEventRecord(CUevent hEvent, CUstream hStream) { return cuEventRecordWithFlags(hEvent, hStream, 0); }

CUresult cuEventQuery(CUevent hEvent) {
  bool complete;
  TRY(event_check(hEvent));
  TRY(capture_check_event(hEvent));
  TRY(capture_refuse_unsafe());
  TRY(event_look(hEvent, &complete));
  return complete ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent hEvent) {
  bool complete;
  TRY(event_check(hEvent));
  TRY(capture_check_event(hEvent));
  TRY(capture_refuse_unsafe());
  TRY(event_look(hEvent, &complete));
  if (!complete) {
    TRY(queue_wait_ticket(hEvent->context, hEvent->ticket));
    TRY(event_look(hEvent, &complete));
  }
  pool_synchronized();
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent hEvent) {
  TRY(event_check(hEvent));
  TRY(forget_mark(hEvent));
  capture_forget_event(hEvent);
  object_delete(hEvent);
  return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime_v2(float *pMilliseconds, CUevent hStart, CUevent hEnd) {
  bool started;
  bool ended;
  NEED(pMilliseconds != NULL);
  TRY(event_check(hStart));
  TRY(event_check(hEnd));
  TRY(capture_check_event(hStart));
  TRY(capture_check_event(hEnd));
  if (!hStart->recorded || !hEnd->recorded || ((hStart->flags | hEnd->flags) & CU_EVENT_DISABLE_TIMING) != 0)
    return CUDA_ERROR_INVALID_HANDLE;
  if (hStart->context->ordinal != hEnd->context->ordinal) return CUDA_ERROR_INVALID_HANDLE;
  TRY(event_look(hStart, &started));
  TRY(event_look(hEnd, &ended));
  if (!started || !ended) return CUDA_ERROR_NOT_READY;
  *pMilliseconds = (float)((double)(int64_t)(hEnd->time_ns - hStart->time_ns) / 1e6);
  return CUDA_SUCCESS;
}
