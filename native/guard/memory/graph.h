/* Memory of CUDA graphs.
 *
 * The driver takes it when a graph is uploaded or launched, keeps it when it is freed, and gives it back when it is trimmed.  Each device
 * has one account, whose truth is what the driver says that it reserves for graphs.  A graph made ready to be launched is known by what
 * its nodes allocate, and that much is admitted before a call that may make the driver take it.
 */
#ifndef GUARD_GRAPH_H
#define GUARD_GRAPH_H

#include <stdatomic.h>
#include <stdbool.h>

#include "cuda_api.h"

typedef CUresult graph_launch_fn(CUgraphExec exec, CUstream stream);

/* True once the process made a graph that allocates. */
extern atomic_bool graph_seen __attribute__((visibility("hidden")));

/* First use of the process, or of a forked child. */
void graph_reset(void);
/* A launch, with room for what it allocates; seen: the stream as functions without a per-thread twin name it. */
CUresult graph_launch_slowly(graph_launch_fn *real, CUgraphExec exec, CUstream stream, CUstream seen);
/* Makes the driver give back what the device keeps for graphs and they do not need. */
void graph_trim(CUdevice device);
/* After the end of a context. */
void graph_context_ended(CUdevice device);

static inline CUresult graph_launch(graph_launch_fn *real, CUgraphExec exec, CUstream stream, CUstream seen) {
  bool may_allocate = __builtin_expect(atomic_load_explicit(&graph_seen, memory_order_relaxed), 0);
  return may_allocate ? graph_launch_slowly(real, exec, stream, seen) : real(exec, stream);
}

#endif
