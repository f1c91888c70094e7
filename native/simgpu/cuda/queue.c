#include "queue.h"

#include <stdlib.h>

#include "event.h"
#include "mps.h"
#include "nap.h"

#define LEAST_PRIORITY_RANK 5 /* of priority 0; the greatest, -5, has rank 0 */

static gpu *device_of(CUcontext context) { return &the_driver.devices[context->ordinal]; }

static bool same(sim_ticket a, sim_ticket b) { return a.target == b.target && a.sequence == b.sequence; }

static sim_ticket all_of(const queue *of) { return (sim_ticket){.target = of->target, .sequence = of->submitted}; }

/* ---- busy and idle ----------------------------------------------------------------------------------------------- */

static unsigned int *count_of(const queue *of) {
  switch (of->kind) {
    case QUEUE_LEGACY: return &of->context->busy_legacy;
    case QUEUE_BLOCKING: return &of->context->busy_blocking;
    default: return &of->context->busy_others;
  }
}

static void set_busy(queue *of, bool busy) {
  if (of->busy == busy) return;
  __atomic_store_n(&of->busy, busy, __ATOMIC_RELEASE);
  __atomic_add_fetch(count_of(of), busy ? 1u : -1u, __ATOMIC_RELEASE);
}

static bool counted(const unsigned int *count) { return __atomic_load_n(count, __ATOMIC_ACQUIRE) != 0; }

bool queue_idle(const queue *of) {
  if (__atomic_load_n(&of->busy, __ATOMIC_ACQUIRE)) return false;
  return (of->kind != QUEUE_LEGACY || !counted(&of->context->busy_blocking)) &&
         (of->kind != QUEUE_BLOCKING || !counted(&of->context->busy_legacy));
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* The mark's time goes to the event that waits for it. */
static void harvest_mark(sim_engine *engine, queue *of, uint64_t sequence) {
  CUevent *place = of->marks != NULL ? &of->marks[sequence % SIM_RING_ITEMS] : NULL;
  if (place == NULL || *place == NULL) return;
  event_complete(*place, sim_item_of(engine, of->target, sequence)->value);
  *place = NULL;
}

void queue_harvest(sim_engine *engine, CUevent event) {
  queue *of = event->queue;
  if (of != NULL && sim_engine_done(engine, event->ticket)) harvest_mark(engine, of, event->ticket.sequence - 1);
}

void queue_forget(CUevent event) {
  if (event->queue != NULL) event->queue->marks[(event->ticket.sequence - 1) % SIM_RING_ITEMS] = NULL;
  event->queue = NULL;
}

/* ---- channels ---------------------------------------------------------------------------------------------------- */

/* Gives back the channel of an idle queue; the times of its marks come home first. */
static void give_channel(sim_engine *engine, queue *of) {
  if (of->target == 0) return;
  for (uint64_t i = 0; of->marks != NULL && i < SIM_RING_ITEMS; i++) harvest_mark(engine, of, i);
  sim_channel_give(engine, of->target);
  of->target = 0;
  of->submitted = 0;
}

static CUresult take_channel(sim_engine *engine, queue *of) {
  if (of->target != 0) return CUDA_SUCCESS;
  sim_status status = sim_channel_take(&the_driver.session, engine, of->priority, &of->target);
  if (status == SIM_NO_SPACE) {
    for (queue *other = device_of(of->context)->queues; other != NULL; other = other->next)
      if (!other->busy) give_channel(engine, other);
    status = sim_channel_take(&the_driver.session, engine, of->priority, &of->target);
  }
  return status == SIM_OK ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
}

static void discard(queue *gone) {
  free(gone->marks);
  free(gone);
}

/* Sees which queues have become idle, and ends orphans among them. */
static void refresh(sim_engine *engine, gpu *device) {
  for (queue **link = &device->queues; *link != NULL;) {
    queue *here = *link;
    if (here->busy && sim_engine_done(engine, all_of(here))) set_busy(here, false);
    if (here->orphan && !here->busy) {
      *link = here->next;
      give_channel(engine, here);
      discard(here);
    } else {
      link = &here->next;
    }
  }
}

CUresult queue_enter(CUcontext context, sim_engine **engine) {
  TRY(driver_error(sim_engine_enter(&the_driver.session, context_card(context), engine)));
  refresh(*engine, device_of(context));
  return CUDA_SUCCESS;
}

void queue_leave(CUcontext context) { sim_engine_leave(&the_driver.session, context_card(context)); }

queue *queue_new(CUcontext context, queue_kind kind, int priority) {
  queue *made = calloc(1, sizeof *made);
  sim_engine *engine;
  if (made == NULL) return NULL;
  made->context = context;
  made->kind = kind;
  made->priority = (uint32_t)(priority + LEAST_PRIORITY_RANK);
  if (queue_enter(context, &engine) != CUDA_SUCCESS) {
    free(made);
    return NULL;
  }
  made->next = device_of(context)->queues;
  device_of(context)->queues = made;
  queue_leave(context);
  return made;
}

void queue_delete(queue *gone) {
  sim_engine *engine;
  CUcontext context = gone->context;
  if (driver_error(sim_engine_enter(&the_driver.session, context_card(context), &engine)) != CUDA_SUCCESS) return;
  gone->orphan = true;
  refresh(engine, device_of(context));
  queue_leave(context);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

CUresult queue_wait_ticket(CUcontext context, sim_ticket ticket) {
  for (;;) {
    sim_engine *engine;
    TRY(mps_sound());
    TRY(queue_enter(context, &engine));
    bool done = sim_engine_done(engine, ticket);
    uint64_t now = engine->now_ns;
    uint64_t least = done ? 0 : sim_engine_least_wait(engine, ticket);
    queue_leave(context);
    if (done) return CUDA_SUCCESS;
    nap(now, least);
  }
}

/* Whether work for `of` would wait for that queue. */
static bool waits_for(const queue *of, const queue *other) {
  if (other == of) return true;
  return other->context == of->context && ((of->kind == QUEUE_LEGACY && other->kind == QUEUE_BLOCKING) ||
                                           (of->kind == QUEUE_BLOCKING && other->kind == QUEUE_LEGACY));
}

/* Waits for the work that `of` would wait for as things are now, or for all of the context's if `of` is NULL. */
static CUresult wait_for_present_work(CUcontext context, const queue *of) {
  sim_ticket tickets[SIM_MAX_CHANNELS];
  sim_engine *engine;
  uint32_t count = 0;
  TRY(queue_enter(context, &engine));
  for (const queue *here = device_of(context)->queues; here != NULL && count < SIM_MAX_CHANNELS; here = here->next)
    if (here->busy && (of != NULL ? waits_for(of, here) : here->context == context)) tickets[count++] = all_of(here);
  queue_leave(context);
  for (uint32_t i = 0; i < count; i++) TRY(queue_wait_ticket(context, tickets[i]));
  return CUDA_SUCCESS;
}

CUresult queue_wait(queue *of) { return queue_idle(of) ? CUDA_SUCCESS : wait_for_present_work(of->context, of); }

CUresult queue_wait_context(CUcontext context) {
  bool busy = counted(&context->busy_legacy) || counted(&context->busy_blocking) || counted(&context->busy_others);
  return busy ? wait_for_present_work(context, NULL) : CUDA_SUCCESS;
}

CUresult queue_wait_present(void) {
  CUcontext current;
  return context_current(&current) == CUDA_SUCCESS ? queue_wait_context(current) : CUDA_SUCCESS;
}

CUresult queue_query(queue *of) {
  sim_engine *engine;
  if (queue_idle(of)) return CUDA_SUCCESS;
  TRY(queue_enter(of->context, &engine));
  queue_leave(of->context);
  return queue_idle(of) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

/* ---- putting ----------------------------------------------------------------------------------------------------- */

/* Whether `to` must still be told to wait for `other`. */
static bool unseen(const queue *to, const queue *other) {
  if (other == to || !other->busy || !waits_for(to, other)) return false;
  return !same(all_of(other), to->kind == QUEUE_LEGACY ? other->seen_by_legacy : to->seen_legacy);
}

static void append(sim_engine *engine, queue *to, const sim_item *item) {
  if (to->submitted >= SIM_RING_ITEMS) harvest_mark(engine, to, to->submitted); /* what lay there before */
  sim_channel_put(engine, to->target, item);
  to->submitted++;
  set_busy(to, true);
}

static void append_waits(sim_engine *engine, queue *to) {
  for (queue *other = device_of(to->context)->queues; other != NULL; other = other->next) {
    if (!unseen(to, other)) continue;
    sim_ticket seen = all_of(other);
    append(engine, to, &(sim_item){.kind = SIM_ITEM_WAIT, .target = seen.target, .value = seen.sequence});
    *(to->kind == QUEUE_LEGACY ? &other->seen_by_legacy : &to->seen_legacy) = seen;
  }
}

#define FEW_WAKES_NS UINT64_C(500000)

/* How long to sleep for room in a full ring: short kernels make room for several launches at once. */
static uint64_t until_room(const sim_engine *engine, sim_ticket room) {
  uint64_t least = sim_engine_least_wait(engine, room);
  for (uint64_t items = 64; items > 1 && least < FEW_WAKES_NS; items /= 4) {
    sim_ticket more = {.target = room.target, .sequence = room.sequence + items};
    uint64_t longer = sim_engine_least_wait(engine, more);
    if (longer < FEW_WAKES_NS) return longer > least ? longer : least;
  }
  return least;
}

/* Enters once the channel has room for an item and the waits before it. */
static CUresult enter_with_room(queue *to, sim_engine **engine) {
  for (;;) {
    TRY(queue_enter(to->context, engine));
    CUresult result = take_channel(*engine, to);
    uint64_t needed = 1;
    for (const queue *other = device_of(to->context)->queues; other != NULL; other = other->next)
      needed += unseen(to, other);
    if (result == CUDA_SUCCESS && sim_channel_room(*engine, to->target) >= needed) return CUDA_SUCCESS;
    sim_ticket ticket = {.target = to->target, .sequence = sim_channel_of(*engine, to->target)->done + needed};
    uint64_t now = (*engine)->now_ns;
    uint64_t least = result == CUDA_SUCCESS ? until_room(*engine, ticket) : 0;
    queue_leave(to->context);
    TRY(result);
    nap(now, least);
  }
}

CUresult queue_put(queue *to, const sim_item *item, CUevent event, sim_ticket *ticket) {
  sim_engine *engine;
  if (event != NULL && to->marks == NULL) {
    CUevent *marks = calloc(SIM_RING_ITEMS, sizeof(CUevent));
    CUevent *none = NULL;
    if (marks == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
    if (!__atomic_compare_exchange_n(&to->marks, &none, marks, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) free(marks);
  }
  TRY(enter_with_room(to, &engine));
  append_waits(engine, to);
  if (event != NULL) {
    queue_forget(event);
    event_begin(event, to, (sim_ticket){.target = to->target, .sequence = to->submitted + 1});
  }
  append(engine, to, item);
  if (event != NULL) to->marks[(to->submitted - 1) % SIM_RING_ITEMS] = event;
  if (ticket != NULL) *ticket = all_of(to);
  queue_leave(to->context);
  return CUDA_SUCCESS;
}

CUresult queue_last(queue *of, sim_ticket *ticket) {
  sim_engine *engine;
  *ticket = (sim_ticket){.target = 0};
  if (!__atomic_load_n(&of->busy, __ATOMIC_ACQUIRE)) return CUDA_SUCCESS;
  TRY(queue_enter(of->context, &engine));
  *ticket = all_of(of);
  queue_leave(of->context);
  return CUDA_SUCCESS;
}
