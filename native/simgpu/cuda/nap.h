/* How the driver waits: asleep until the moment that the engine names, on time within microseconds, and never long. */
#ifndef SIMGPU_CUDA_NAP_H
#define SIMGPU_CUDA_NAP_H

#include <stdint.h>

/* Sleeps for that long at most from `now_ns`, a time of CLOCK_MONOTONIC; 0: until work of the host ends, or a moment. */
void nap(uint64_t now_ns, uint64_t least_ns);

/* Says that work of the host has ended. */
void nap_over(void);

#endif
