/* Stream capture: work that is put into a stream becomes nodes of a graph.
 *
 * A process that captures nothing pays one load of `captures_open` per call.  Everything else is under one mutex.
 */
#ifndef SIMGPU_CUDA_CAPTURE_H
#define SIMGPU_CUDA_CAPTURE_H

#include "graph.h"

typedef struct capture capture;

extern unsigned int captures_open;

static inline bool capture_any(void) { return __atomic_load_n(&captures_open, __ATOMIC_ACQUIRE) != 0; }

/* Whether work for the stream is captured.  If it is, `params` becomes a node behind the stream's latest ones.  Errors are
 * those of a capture that is invalid, and of a legacy stream that would have to wait for a capturing one. */
CUresult capture_node(CUstream stream, CUgraphNodeParams *params, bool *captured);

/* The error of an operation that a capturing stream does not allow, which invalidates the capture. */
CUresult capture_refuse(CUstream stream);

/* The same for an operation that is unsafe while this thread, or as far as modes say so any other, captures. */
CUresult capture_refuse_unsafe(void);

/* The same for an operation on all of a context. */
CUresult capture_refuse_context(CUcontext context);

/* Records an event in a capturing stream. */
CUresult capture_record(CUstream stream, CUevent event, bool *captured);

/* Lets a stream wait for an event, if either of them is being captured. */
CUresult capture_wait(CUstream stream, CUevent event, bool *captured);

/* Whether the event was last recorded in a capture. */
CUresult capture_check_event(CUevent event);

/* The event is recorded outside of captures, or gone; the stream is gone. */
void capture_forget_event(CUevent event);
void capture_forget_stream(CUstream stream);

#endif
