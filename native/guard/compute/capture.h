/* Streams that capture: what is launched there runs later, as part of a graph, and costs nothing now.
 *
 * Programs that never capture pay one load for knowing so.
 */
#ifndef GUARD_CAPTURE_H
#define GUARD_CAPTURE_H

#include <stdbool.h>

#include "cuda_api.h"

void capture_reset(void);
/* True when a launch into this stream is none. */
bool capture_is_on(CUstream stream);
/* Around calls that a capture of another thread would forbid; returns whether there was anything to do. */
bool capture_relax(void);
void capture_tighten(bool relaxed);

#endif
