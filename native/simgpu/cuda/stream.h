/* Streams and events. */
#ifndef SIMGPU_CUDA_STREAM_H
#define SIMGPU_CUDA_STREAM_H

#include "context.h"

/* Whether the handle is a stream, the default ones included. */
CUresult stream_check(CUstream stream);

#endif
