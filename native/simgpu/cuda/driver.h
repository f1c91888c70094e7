/* What every part of the simulated libcuda shares: the CUDA header, the process's state, and how functions begin.
 *
 * A function that cuda.h declares is defined at the left margin as `CUresult name(`: the generator finds it by
 * that, and makes a stub that says CUDA_ERROR_NOT_SUPPORTED of every other exported name.
 */
#ifndef SIMGPU_CUDA_DRIVER_H
#define SIMGPU_CUDA_DRIVER_H

/* All versions of all functions, under their exported names. */
#define __CUDA_API_VERSION_INTERNAL
#pragma GCC visibility push(default)
#include <cuda.h>
#pragma GCC visibility pop

#include <pthread.h>
#include <stdbool.h>

#include "account.h"

/* Leaves the function with the first error. */
#define TRY(expression)                        \
  do {                                         \
    CUresult tried_ = (expression);            \
    if (tried_ != CUDA_SUCCESS) return tried_; \
  } while (0)
#define NEED(condition)                                \
  do {                                                 \
    if (!(condition)) return CUDA_ERROR_INVALID_VALUE; \
  } while (0)

/* A card as this process sees it: CUdevice is its position in driver.devices. */
typedef struct gpu {
  uint32_t card;  /* index in the state file */
  sim_card facts; /* of a MIG device: its own name, UUID, memory and processors */
  char card_uuid[48];
  CUcontext primary; /* made by the first retain, then kept */
  unsigned int primary_references;
  unsigned int primary_flags;
  CUmemoryPool default_pool;
  CUmemoryPool current_pool;
  struct queue *queues; /* see queue.h */
} gpu;

typedef struct driver {
  pthread_mutex_t mutex; /* guards the devices' primary contexts and pools */
  sim_session session;
  uint32_t cuda_version;
  bool mig; /* the one device is a MIG device: */
  uint32_t mig_place, mig_id;
  int device_count;
  gpu devices[SIM_MAX_CARDS];
} driver;

extern driver the_driver;

/* CUDA_SUCCESS after cuInit; what calls must return otherwise, also in a child after fork. */
CUresult driver_ready(void);

/* The device, or CUDA_ERROR_INVALID_DEVICE. */
CUresult driver_device(CUdevice ordinal, gpu **found);

/* What the state file said, in CUDA's words. */
CUresult driver_error(sim_status status);

#endif
