/* A share's allowance of GPU time: one bucket in its usage file, for all its processes.
 *
 * Nobody refills it but those who come: whoever needs tokens first moves `bucket_at_ns` to the present frame and pours in what
 * that time is worth.  Time comes in frames of CLOCK_MONOTONIC, so that shares of one container, whose frames begin together, stop
 * and go together: ranks of a collective wait for each other's cards otherwise.
 *
 * The file is the tenant's: level and time may be garbage at any moment.  What is read is clamped to what an honest share could
 * have, so that garbage is worth at most one full bucket, and costs at most BUCKET_DEBT_NS of waiting.
 */
#ifndef GUARD_BUCKET_H
#define GUARD_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "hami_abi.h"

#define BUCKET_FRAME_NS UINT64_C(10000000)
/* What an idle share may save up, and what a busy one may owe, both in time at its rate. */
#define BUCKET_SAVED_NS UINT64_C(100000000)
#define BUCKET_DEBT_NS UINT64_C(30000000000)

/* The beginning of the frame that now lies in. */
static inline uint64_t bucket_frame(uint64_t now_ns, uint64_t phase_ns) {
  return now_ns < phase_ns ? now_ns : now_ns - (now_ns - phase_ns) % BUCKET_FRAME_NS;
}

/* Pours in what is due at the beginning of a frame; does nothing when that was done. */
void bucket_fill(hami_usage_header *header, uint64_t frame_ns, uint32_t permille);
/* What is in it, within the bounds of this rate. */
int64_t bucket_level(const hami_usage_header *header, uint32_t permille);
/* Takes GPU time out; negative puts it back. */
void bucket_charge(hami_usage_header *header, int64_t gpu_ns);
/* How long until a level is above zero at this rate. */
uint64_t bucket_wait_ns(int64_t level, uint32_t permille);

#endif
