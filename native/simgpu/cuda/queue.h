/* What a stream has to do: a queue of work over a channel of the card's engine.
 *
 * A stream that has nothing to do needs no channel, no lock and no look at the engine: `busy` and the context's counts
 * say so.  They may say busy for work that has ended since, never idle for work that has not.  Everything here but
 * reading those is done between queue_enter and queue_leave.
 */
#ifndef SIMGPU_CUDA_QUEUE_H
#define SIMGPU_CUDA_QUEUE_H

#include "context.h"
#include "engine_use.h"

typedef enum queue_kind {
  QUEUE_LEGACY = 1,   /* waits for all blocking streams of its context, and they for it */
  QUEUE_BLOCKING,     /* the per-thread default streams too */
  QUEUE_NON_BLOCKING, /* waits for nobody */
} queue_kind;

typedef struct queue queue;
struct queue {
  CUcontext context;
  queue_kind kind;
  uint32_t priority;         /* of the channel */
  bool busy;                 /* has items that were not done when last looked at */
  bool orphan;               /* its stream is gone: it ends with its last item */
  uint64_t target;           /* the channel; 0: none yet */
  uint64_t submitted;        /* items ever put into this channel */
  sim_ticket seen_legacy;    /* what of the legacy stream's work this queue waits for already */
  sim_ticket seen_by_legacy; /* what of this queue's work the legacy stream waits for already */
  CUevent *marks;            /* by item of the ring: whose time it will be */
  queue *next;               /* of the device */
};

/* A new queue of the context, or NULL. */
queue *queue_new(CUcontext context, queue_kind kind, int priority);

/* Lets go of a queue: it vanishes now or with the end of its work. */
void queue_delete(queue *gone);

/* Takes the engine of the context's card, at the present moment, and brings the queues up to date. */
CUresult queue_enter(CUcontext context, sim_engine **engine);
void queue_leave(CUcontext context);

/* Whether the queue has nothing to do and nothing to wait for: work put into it would begin at once. */
bool queue_idle(const queue *of);

/* Appends an item behind what the queue must wait for.  It waits as long as the ring is full; the item's place goes to
 * `ticket` unless that is NULL.  `event`, of a mark, gets its time.  Called without the engine. */
CUresult queue_put(queue *to, const sim_item *item, CUevent event, sim_ticket *ticket);

/* All that has been put into the queue up to now; a ticket that is done if nothing is left of it. */
CUresult queue_last(queue *of, sim_ticket *ticket);

/* Waits until work put into the queue now would begin. */
CUresult queue_wait(queue *of);

/* Whether it would begin now. */
CUresult queue_query(queue *of);

/* Waits for all queues of the context. */
CUresult queue_wait_context(CUcontext context);

/* The same for the current context, if there is one: how memory is freed. */
CUresult queue_wait_present(void);

/* Waits for what a ticket stands for. */
CUresult queue_wait_ticket(CUcontext context, sim_ticket ticket);

/* Brings the event's time home if it is known.  Between queue_enter and queue_leave. */
void queue_harvest(sim_engine *engine, CUevent event);

/* Takes the event off the mark that it waits for. */
void queue_forget(CUevent event);

#endif
