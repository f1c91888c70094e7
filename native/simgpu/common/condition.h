/* The part of the state file that says in what condition cards are: how MIG cuts them, and what is wrong with them.
 *
 * Changed under the lock of the state file, one field at a time and the one that makes a thing valid last, so that
 * death at any point leaves a condition that can be.  Read by sim_condition_read, which trusts none of it.
 */
#ifndef SIMGPU_CONDITION_H
#define SIMGPU_CONDITION_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define SIM_MAX_GPU_INSTANCES 8u
#define SIM_MAX_COMPUTE_INSTANCES 8u

typedef struct sim_compute_instance {
  uint32_t serial;  /* 0: free; else grows with each instance of the card, so that stale handles are recognised */
  uint32_t profile; /* NVML_COMPUTE_INSTANCE_PROFILE_* */
  uint32_t start;   /* compute slice, within the GPU instance */
  uint32_t slices;
} sim_compute_instance;

typedef struct sim_gpu_instance {
  uint32_t serial;  /* as above */
  uint32_t profile; /* NVML_GPU_INSTANCE_PROFILE_* */
  uint32_t start;   /* memory slice */
  uint32_t size;
  sim_compute_instance compute[SIM_MAX_COMPUTE_INSTANCES]; /* the index is the id */
} sim_gpu_instance;

typedef struct sim_mig {
  uint32_t enabled; /* 0 or 1 */
  uint32_t pending; /* what it will be after a reset */
  uint32_t serial;  /* of the last instance */
  uint32_t unused;
  sim_gpu_instance instances[SIM_MAX_GPU_INSTANCES];
} sim_mig;

/* One card. */
typedef struct sim_condition {
  sim_mig mig;
  unsigned char unused[2928];
} sim_condition;

static_assert(sizeof(sim_condition) == 4096, "layout of a condition");

#endif
