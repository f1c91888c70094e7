/* This process as a client of MPS. */
#ifndef SIMGPU_CUDA_MPS_H
#define SIMGPU_CUDA_MPS_H

#include "driver.h"

/* Joins the daemon of the pipe directory.  Where nobody listens the process runs without MPS, as with the real driver. */
CUresult mps_join(void);

/* CUDA_SUCCESS, or what every call of a client says once its daemon has ended. */
CUresult mps_sound(void);

/* How many bytes of each card the client may hold; 0: no limit. */
uint64_t mps_most_bytes(void);

/* What a kernel takes of the card and for how long, on the client's part of the multiprocessors. */
void mps_confine(uint32_t *occupancy, uint64_t *duration_ns);

#endif
