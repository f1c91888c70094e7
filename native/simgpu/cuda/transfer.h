/* Copies and writes as streams and graphs do them: at once, since they take no time on the card and no kernel changes any
 * bytes; but not before work of the host that waits in this process to be done, which may. */
#ifndef SIMGPU_CUDA_TRANSFER_H
#define SIMGPU_CUDA_TRANSFER_H

#include "stream.h"

/* Rows and slices of bytes; every address has been checked. */
typedef struct transfer_box {
  uintptr_t to, from;
  size_t to_pitch, to_slice;
  size_t from_pitch, from_slice;
  size_t width_bytes, height, depth;
} transfer_box;

CUresult transfer_move(const transfer_box *box, CUstream stream);

/* A copy as the program describes it. */
CUresult transfer_copy(const CUDA_MEMCPY3D *copy, CUstream stream);

/* Writes `height` rows of `width` elements. */
CUresult transfer_set(const CUDA_MEMSET_NODE_PARAMS_v2 *set, CUstream stream);

/* The copy becomes a node if the stream is being captured. */
CUresult transfer_capture(const CUDA_MEMCPY3D *copy, CUstream stream, bool *captured);

#endif
