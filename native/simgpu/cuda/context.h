/* Contexts and the calling thread's stack of them. */
#ifndef SIMGPU_CUDA_CONTEXT_H
#define SIMGPU_CUDA_CONTEXT_H

#include "driver.h"
#include "object.h"

/* What the driver takes for itself within a context, until it gives it back or the context ends. */
typedef struct context_cost {
  CUcontext context; /* NULL: nothing */
  unsigned int life;
  uint64_t bytes;
} context_cost;

struct CUctx_st {
  object object;
  CUdevice ordinal;
  bool primary;
  bool active; /* false: a primary context that nobody retains, or a reset one not used since */
  unsigned int flags;
  uint32_t peers;          /* devices, by ordinal, whose memory it may reach */
  uint64_t overhead_bytes; /* charged for the context itself, its modules and its limits */
  unsigned int life;       /* counts the times that it became active */
  size_t limits[CU_LIMIT_MAX];
  context_cost limit_cost;
  CUfunc_cache cache;
  CUsharedconfig shared_config;
  CUstream legacy;          /* the default stream, made at its first use */
  unsigned int busy_legacy; /* queues of each kind that have work; see queue.h */
  unsigned int busy_blocking;
  unsigned int busy_others;
};

/* The current context, or why there is none. */
CUresult context_current(CUcontext *current);

/* `context`, or the current one for NULL. */
CUresult context_or_current(CUcontext context, CUcontext *found);

/* The error that sticks to this process on the device, after a fault of the card (see faults.h): what touches the device
 * fails with it until the process ends. */
CUresult device_sound(CUdevice ordinal);

/* Charges `bytes` for the driver's own use in the context, if the card is set to charge for such things; instead of what
 * `cost` was before. */
CUresult context_charge(CUcontext context, uint64_t bytes, context_cost *cost);

/* Gives it back. */
void context_discharge(context_cost *cost);

/* The state file's index of the context's card. */
uint32_t context_card(CUcontext context);

#endif
