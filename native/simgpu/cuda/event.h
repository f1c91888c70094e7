/* Events: a time on a card that is known, or will be when a queue gets to a mark. */
#ifndef SIMGPU_CUDA_EVENT_H
#define SIMGPU_CUDA_EVENT_H

#include "queue.h"

struct CUevent_st {
  object object;
  CUcontext context;
  unsigned int flags;
  bool recorded;
  bool complete;
  uint64_t time_ns;  /* of CLOCK_MONOTONIC, once complete */
  sim_ticket ticket; /* what it waits for */
  queue *queue;      /* whose mark it waits for; NULL: none */
  /* Its last record, if that was in a capture; see capture.c. */
  unsigned long long capture_id;
  CUgraphNode *tails;
  size_t tail_count;
};

/* The handle is an event's. */
CUresult event_check(CUevent event);

/* The event has been recorded behind that work. */
void event_begin(CUevent event, queue *of, sim_ticket ticket);

/* The event happened at that time. */
void event_complete(CUevent event, uint64_t time_ns);

/* Records the event in a stream, and lets a stream wait for it: what the driver's functions do outside of captures. */
CUresult event_record(CUevent event, CUstream stream);
CUresult event_wait(CUevent event, CUstream stream);

/* Whether the event, recorded or not, has nothing to wait for; looks at the engine when needed. */
CUresult event_look(CUevent event, bool *complete);

#endif
