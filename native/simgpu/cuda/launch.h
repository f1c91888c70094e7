/* How long kernels take, and how they get to the card. */
#ifndef SIMGPU_CUDA_LAUNCH_H
#define SIMGPU_CUDA_LAUNCH_H

#include "module.h"
#include "stream.h"

/* What a launch with these arguments takes. */
uint64_t launch_duration_ns(CUfunction function, void **parameters, void **extra);

/* Puts a kernel into the queue; nothing to do for one that takes no time where nothing waits. */
CUresult launch_put(queue *to, uint64_t duration_ns, uint32_t occupancy);

#endif
