/* How long kernels take, and how they get to the card. */
#ifndef SIMGPU_CUDA_LAUNCH_H
#define SIMGPU_CUDA_LAUNCH_H

#include "module.h"
#include "stream.h"

/* What a launch with these arguments takes. */
uint64_t launch_duration_ns(CUfunction function, void **parameters, void **extra);

/* Whether there is such a function, and a launch of that shape. */
CUresult launch_check(CUfunction function, const unsigned int grid[3], const unsigned int block[3]);

/* Counts a kernel and puts it into the stream; nothing to do for one that takes no time where nothing waits. */
CUresult launch_put(CUstream stream, uint64_t duration_ns, const unsigned int grid[3], const unsigned int block[3]);

#endif
