/* Contexts and the calling thread's stack of them. */
#ifndef SIMGPU_CUDA_CONTEXT_H
#define SIMGPU_CUDA_CONTEXT_H

#include "driver.h"
#include "object.h"

struct CUctx_st {
  object object;
  CUdevice ordinal;
  bool primary;
  bool active; /* false: a primary context that nobody retains, or a reset one not used since */
  unsigned int flags;
  uint32_t peers;          /* devices, by ordinal, whose memory it may reach */
  uint64_t overhead_bytes; /* charged for the context itself */
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

/* The state file's index of the context's card. */
uint32_t context_card(CUcontext context);

#endif
