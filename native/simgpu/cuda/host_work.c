#include "host_work.h"

#include <stdlib.h>

#include "nap.h"

/* A task in its place. */
typedef struct waiting {
  host_task task;
  CUcontext context;
  sim_ticket ticket; /* all up to and including the host's item */
  CUcontext other;   /* of an event that must have happened too, or NULL */
  sim_ticket other_ticket;
  struct waiting *next;
} waiting;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static waiting *first; /* in the order of submission */
static bool started;
static unsigned int pending;       /* tasks that something may depend on, */
static unsigned int pending_aside; /* and others */

bool host_work_pending(void) { return __atomic_load_n(&pending, __ATOMIC_ACQUIRE) != 0; }

static void perform(const host_task *task) {
  if (task->function != NULL) task->function(task->data);
  if (task->callback != NULL) task->callback(task->stream, CUDA_SUCCESS, task->data);
  if (task->owns_data) free(task->data);
}

/* Whether that work is done; if not, how long it takes at least. */
static bool done(CUcontext context, sim_ticket ticket, uint64_t *now_ns, uint64_t *least_ns) {
  sim_engine *engine;
  if (queue_enter(context, &engine) != CUDA_SUCCESS) return false;
  bool over = sim_engine_done(engine, ticket);
  uint64_t least = over ? 0 : sim_engine_least_wait(engine, ticket);
  if (least > 0 && (*least_ns == 0 || least < *least_ns)) *least_ns = least;
  *now_ns = engine->now_ns;
  queue_leave(context);
  return over;
}

/* Whether the channel has come to the host's item, and whatever else must have happened has. */
static bool reached(const waiting *one, uint64_t *now_ns, uint64_t *least_ns) {
  sim_ticket before = {.target = one->ticket.target, .sequence = one->ticket.sequence - !one->task.aside};
  return done(one->context, before, now_ns, least_ns) &&
         (one->other == NULL || done(one->other, one->other_ticket, now_ns, least_ns));
}

static void release(const waiting *one) {
  sim_engine *engine;
  if (one->task.aside || queue_enter(one->context, &engine) != CUDA_SUCCESS) return;
  sim_channel_release(engine, one->ticket.target, one->ticket.sequence - 1);
  queue_leave(one->context);
}

/* Takes the first task whose turn has come out of the list.  One that was put aside is performed at once, so that nobody
 * who finds none left can be ahead of it. */
static waiting *claim(bool aside_only, uint64_t *now_ns, uint64_t *least_ns) {
  waiting *found = NULL;
  pthread_mutex_lock(&mutex);
  for (waiting **link = &first; *link != NULL; link = &(*link)->next) {
    if ((aside_only && !(*link)->task.aside) || !reached(*link, now_ns, least_ns)) continue;
    found = *link;
    *link = found->next;
    if (found->task.aside) perform(&found->task);
    break;
  }
  pthread_mutex_unlock(&mutex);
  return found;
}

static void carry_out(waiting *one) {
  if (!one->task.aside) perform(&one->task);
  release(one);
  __atomic_sub_fetch(one->task.aside ? &pending_aside : &pending, 1u, __ATOMIC_RELEASE);
  free(one);
  nap_over();
}

static void *serve(void *unused) {
  for (;;) {
    uint64_t now = 0;
    uint64_t least = 0;
    pthread_mutex_lock(&mutex);
    while (first == NULL) pthread_cond_wait(&more, &mutex);
    pthread_mutex_unlock(&mutex);
    waiting *one = claim(false, &now, &least);
    if (one != NULL)
      carry_out(one);
    else
      nap(now, least);
  }
  return unused;
}

void host_work_settle(void) {
  uint64_t now = 0;
  uint64_t least = 0;
  if (__atomic_load_n(&pending_aside, __ATOMIC_ACQUIRE) == 0) return;
  for (waiting *one; (one = claim(true, &now, &least)) != NULL;) carry_out(one);
}

static CUresult start_locked(void) {
  pthread_t thread;
  if (started) return CUDA_SUCCESS;
  if (pthread_create(&thread, NULL, serve, NULL) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
  pthread_detach(thread);
  started = true;
  return CUDA_SUCCESS;
}

static CUresult enqueue(queue *to, waiting *one) {
  unsigned int *count = one->task.aside ? &pending_aside : &pending;
  __atomic_add_fetch(count, 1u, __ATOMIC_RELEASE);
  pthread_mutex_lock(&mutex);
  CUresult result = start_locked();
  pthread_mutex_unlock(&mutex);
  const sim_item item = {.kind = one->task.aside ? SIM_ITEM_MARK : SIM_ITEM_HOST};
  if (result == CUDA_SUCCESS) result = queue_put(to, &item, NULL, &one->ticket);
  if (result != CUDA_SUCCESS) {
    __atomic_sub_fetch(count, 1u, __ATOMIC_RELEASE);
    return result;
  }
  pthread_mutex_lock(&mutex);
  waiting **link = &first;
  while (*link != NULL) link = &(*link)->next;
  *link = one;
  pthread_cond_signal(&more);
  pthread_mutex_unlock(&mutex);
  return CUDA_SUCCESS;
}

static CUresult put(queue *to, const waiting *wanted) {
  waiting *one = malloc(sizeof *one);
  if (one == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  *one = *wanted;
  CUresult result = enqueue(to, one);
  if (result != CUDA_SUCCESS) free(one);
  return result;
}

CUresult host_work_put(queue *to, const host_task *task) {
  if (queue_query(to) != CUDA_SUCCESS) return put(to, &(waiting){.task = *task, .context = to->context});
  perform(task);
  return CUDA_SUCCESS;
}

CUresult host_work_wait(queue *to, CUevent event) {
  return put(to, &(waiting){.context = to->context, .other = event->context, .other_ticket = event->ticket});
}
