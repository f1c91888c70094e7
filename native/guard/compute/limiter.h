/* The compute limiter: launches pass while their share's bucket has GPU time, and wait while it has none.
 *
 * Around each launch: compute_enter, the driver, compute_leave.  With tokens left that is a look at the bucket, at the signature's
 * estimate and at a coarse clock; tokens are taken from the bucket in portions.  Everything else (measuring, refilling, waiting)
 * is rare.  Nothing waits for ever: a wait ends with the tokens, with a changed limit, or after COMPUTE_MOST_WAIT_NS.
 */
#ifndef GUARD_LIMITER_H
#define GUARD_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "cuda_api.h"
#include "meter.h"

struct compute_place;

/* What is launched. */
struct compute_work {
  CUstream stream;
  uint64_t key;          /* of all that decides about its duration and can be seen from outside */
  uint64_t function_key; /* of the function alone; 0: it has none */
};

/* Between enter and leave. */
struct compute_launch {
  struct compute_place *place; /* NULL: nothing to do when leaving */
  meter_bracket *bracket;
  struct compute_work work;
  uint64_t entered_ns;
  uint64_t charged_ns;
};

/* First use of the process, or of a forked child. */
void compute_reset(void);
/* Before a launch: whether there is anything to enter; if not, the launch is counted and that is all. */
bool compute_wanted(void);
void compute_enter(struct compute_launch *launch, const struct compute_work *work);
void compute_leave_slowly(struct compute_launch *launch, CUresult result);
/* The context is no more; its handle may come back as another's. */
void compute_forget_context(CUcontext context);

static inline void compute_leave(struct compute_launch *launch, CUresult result) {
  if (launch->bracket == NULL && (launch->charged_ns == 0 || result == CUDA_SUCCESS)) return;
  compute_leave_slowly(launch, result);
}

static inline uint64_t compute_key(const void *what, uint64_t shape) {
  return estimate_mix((uint64_t)(uintptr_t)what, shape) | 1u;
}

#endif
