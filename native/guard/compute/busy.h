/* When the share kept its device busy, as bits in its usage file.
 *
 * Kernels of several streams, and of several processes, run at the same time or wait for each other; the sum of their elapsed
 * times is then more than the time the device spent on them.  So every measured interval is marked here, and what counts is how
 * much of it nobody had marked yet: the union of all intervals, told apart by who came first.
 *
 * A word is the number of its piece of time in the upper half, a bit for each cell of that piece in the lower: one
 * compare-exchange marks up to 32 cells, and a word of the past is taken over by whoever needs it.
 */
#ifndef GUARD_BUSY_H
#define GUARD_BUSY_H

#include <stdint.h>

#include "hami_abi.h"

#define BUSY_CELL_NS UINT64_C(32768)
/* Intervals that ended longer ago than this are not told from others any more; they count in full. */
#define BUSY_WINDOW_NS (BUSY_CELL_NS * 32u * HAMI_USAGE_BUSY_WORDS)

/* Marks an interval of CLOCK_MONOTONIC and says how much of it was new. */
uint64_t busy_mark(uint64_t words[HAMI_USAGE_BUSY_WORDS], uint64_t from_ns, uint64_t to_ns);

#endif
