/* cuCtxSetLimit: what a context may use of local memory and heaps. */
#ifndef SIMGPU_CUDA_LIMIT_H
#define SIMGPU_CUDA_LIMIT_H

#include "context.h"

/* Sets all limits of a new context to what they are by default, which the context's overhead contains. */
void limits_reset(CUcontext context);

#endif
