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
static unsigned int pending;

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
  sim_ticket before = {.target = one->ticket.target, .sequence = one->ticket.sequence - 1};
  return done(one->context, before, now_ns, least_ns) &&
         (one->other == NULL || done(one->other, one->other_ticket, now_ns, least_ns));
}

static void release(const waiting *one) {
  sim_engine *engine;
  if (queue_enter(one->context, &engine) != CUDA_SUCCESS) return;
  sim_channel_release(engine, one->ticket.target, one->ticket.sequence - 1);
  queue_leave(one->context);
}

static void unlink_task(waiting *gone) {
  pthread_mutex_lock(&mutex);
  waiting **link = &first;
  while (*link != gone) link = &(*link)->next;
  *link = gone->next;
  pthread_mutex_unlock(&mutex);
}

/* The first task whose turn has come; NULL after a moment's sleep if there is none. */
static waiting *next_task(void) {
  uint64_t now = 0;
  uint64_t least = 0;
  pthread_mutex_lock(&mutex);
  while (first == NULL) pthread_cond_wait(&more, &mutex);
  waiting *found = first;
  pthread_mutex_unlock(&mutex);
  /* Only this thread takes tasks away, and new ones come at the end. */
  while (found != NULL && !reached(found, &now, &least)) {
    pthread_mutex_lock(&mutex);
    found = found->next;
    pthread_mutex_unlock(&mutex);
  }
  if (found == NULL) nap(now, least);
  return found;
}

static void *serve(void *unused) {
  for (;;) {
    waiting *one = next_task();
    if (one == NULL) continue;
    perform(&one->task);
    release(one);
    unlink_task(one);
    free(one);
    __atomic_sub_fetch(&pending, 1u, __ATOMIC_RELEASE);
    nap_over();
  }
  return unused;
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
  __atomic_add_fetch(&pending, 1u, __ATOMIC_RELEASE);
  pthread_mutex_lock(&mutex);
  CUresult result = start_locked();
  pthread_mutex_unlock(&mutex);
  if (result == CUDA_SUCCESS) result = queue_put(to, &(sim_item){.kind = SIM_ITEM_HOST}, NULL, &one->ticket);
  if (result != CUDA_SUCCESS) {
    __atomic_sub_fetch(&pending, 1u, __ATOMIC_RELEASE);
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
