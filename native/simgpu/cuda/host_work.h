/* What the host does when a stream gets there: functions of the program, copies behind such functions, and waits for
 * events of other cards.  One thread does it all, and exists only once a busy stream has been given such work. */
#ifndef SIMGPU_CUDA_HOST_WORK_H
#define SIMGPU_CUDA_HOST_WORK_H

#include "event.h"

typedef struct host_task host_task;
struct host_task {
  CUhostFn function; /* or */
  CUstreamCallback callback;
  CUstream stream; /* as the program named it, for its callback */
  void *data;
  bool owns_data; /* malloc'ed for this task */
  bool aside;     /* the driver's own bookkeeping: it holds up neither the stream nor copies */
};

/* Does the task when the queue gets there: now, by the caller, if it is idle. */
CUresult host_work_put(queue *to, const host_task *task);

/* Holds the queue up until an event of another card has happened. */
CUresult host_work_wait(queue *to, CUevent event);

/* Does what has been put aside and can be done: synchronising functions end with this. */
void host_work_settle(void);

/* Whether any work of the host waits in this process: copies must not overtake it. */
bool host_work_pending(void);

#endif
