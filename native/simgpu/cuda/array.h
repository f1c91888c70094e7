/* CUDA arrays: opaque memory with a shape. */
#ifndef SIMGPU_CUDA_ARRAY_H
#define SIMGPU_CUDA_ARRAY_H

#include "context.h"

struct CUarray_st {
  object object;
  CUDA_ARRAY3D_DESCRIPTOR descriptor;
  size_t row_bytes;
  size_t rows;   /* at least 1 */
  size_t slices; /* depth or layers, at least 1 */
  uintptr_t base;
  CUmipmappedArray parent; /* whose memory it is, or NULL */
};

/* CUDA_SUCCESS if the handle is an array whose memory is still there. */
CUresult array_check(CUarray array);

#endif
