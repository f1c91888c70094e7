#include "transfer.h"

#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "host_work.h"
#include "memory.h"

/* Does it now, or when the stream gets there. */
static CUresult submit(CUhostFn perform, const void *what, size_t size, CUstream stream) {
  void *copy = malloc(size);
  if (copy == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  memcpy(copy, what, size);
  CUresult result = host_work_put(stream->queue, &(host_task){.function = perform, .data = copy, .owns_data = true});
  if (result != CUDA_SUCCESS) free(copy);
  return result;
}

static void move(void *data) {
  const transfer_box *box = data;
  for (size_t z = 0; z < box->depth; z++)
    for (size_t y = 0; y < box->height; y++)
      memmove((void *)(box->to + z * box->to_slice + y * box->to_pitch),
              (const void *)(box->from + z * box->from_slice + y * box->from_pitch), box->width_bytes);
}

CUresult transfer_move(const transfer_box *box, CUstream stream) {
  transfer_box now = *box;
  if (host_work_pending()) return submit(move, box, sizeof *box, stream);
  move(&now);
  return CUDA_SUCCESS;
}

static void set(void *data) {
  const CUDA_MEMSET_NODE_PARAMS_v2 *of = data;
  for (size_t y = 0; y < of->height; y++) {
    unsigned char *line = (unsigned char *)(uintptr_t)of->dst + y * of->pitch;
    if (of->elementSize == 1)
      memset(line, (unsigned char)of->value, of->width);
    else
      for (size_t x = 0; x < of->width; x++) memcpy(line + x * of->elementSize, &of->value, of->elementSize);
  }
}

static CUresult check_set(const CUDA_MEMSET_NODE_PARAMS_v2 *of) {
  size_t row;
  size_t span;
  NEED(of->elementSize == 1 || of->elementSize == 2 || of->elementSize == 4);
  NEED(of->dst % of->elementSize == 0 && of->pitch % of->elementSize == 0);
  NEED(!__builtin_mul_overflow(of->width, of->elementSize, &row) && (of->height == 1 || of->pitch >= row));
  NEED(!__builtin_mul_overflow(of->pitch, of->height - 1, &span) && !__builtin_add_overflow(span, row, &span));
  return memory_check_device(of->dst, span);
}

CUresult transfer_set(const CUDA_MEMSET_NODE_PARAMS_v2 *of, CUstream stream) {
  CUDA_MEMSET_NODE_PARAMS_v2 now = *of;
  if (of->width == 0 || of->height == 0) return CUDA_SUCCESS;
  TRY(check_set(of));
  if (host_work_pending()) return submit(set, of, sizeof *of, stream);
  set(&now);
  return CUDA_SUCCESS;
}

CUresult transfer_capture(const CUDA_MEMCPY3D *copy, CUstream stream, bool *captured) {
  CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMCPY,
                              .memcpy = {.copyCtx = stream->context, .copyParams = *copy}};
  return capture_node(stream, &params, captured);
}
