/* Streams: those that programs make, and the default ones of each context. */
#ifndef SIMGPU_CUDA_STREAM_H
#define SIMGPU_CUDA_STREAM_H

#include "queue.h"

struct CUstream_st {
  object object;
  CUcontext context;
  unsigned int flags;
  int priority;
  queue *queue;
  CUstream next; /* of a thread's default streams */
  /* Of a stream that is being captured; see capture.c. */
  struct capture *capture;
  CUgraphNode *tails; /* what comes next depends on these */
  size_t tail_count;
};

/* The stream behind a handle; NULL and CU_STREAM_LEGACY mean the current context's legacy default stream, and
 * CU_STREAM_PER_THREAD its default stream of the calling thread. */
CUresult stream_find(CUstream handle, CUstream *found);

/* Whether NULL means, until this is said again, the calling thread's default stream: so in the functions' twins for
 * programs that are compiled that way.  Returns what was so before. */
bool stream_default_of_thread(bool own);

/* Whether the handle is a stream, the default ones included. */
CUresult stream_check(CUstream stream);

/* Waits for what work in the default stream would wait for: how synchronous functions begin. */
CUresult stream_synchronous(void);

#endif
