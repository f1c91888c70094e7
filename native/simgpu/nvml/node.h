/* What every part of the simulated libnvidia-ml shares: the NVML header, the node, and how functions begin.
 *
 * A function is defined at the left margin as `nvmlReturn_t name(`: the generator finds it by that, and makes a
 * stub that says NVML_ERROR_NOT_SUPPORTED of every other exported name.
 */
#ifndef SIMGPU_NVML_NODE_H
#define SIMGPU_NVML_NODE_H

/* All versions of all functions, under their exported names. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#pragma GCC visibility push(default)
#include <nvml.h>
#pragma GCC visibility pop

#include "account.h"

/* Leaves the function with the first error. */
#define TRY(expression)                        \
  do {                                         \
    nvmlReturn_t tried_ = (expression);        \
    if (tried_ != NVML_SUCCESS) return tried_; \
  } while (0)
#define NEED(condition)                                   \
  do {                                                    \
    if (!(condition)) return NVML_ERROR_INVALID_ARGUMENT; \
  } while (0)

/* One card; handles are addresses in an array of the node's, in PCI order. */
struct nvmlDevice_st {
  sim_card facts;
  uint32_t card; /* index in the state file */
};

/* The store behind the handles. */
const sim_store *node_store(void);

/* NVML_SUCCESS between nvmlInit and nvmlShutdown. */
nvmlReturn_t node_ready(void);

/* The visible cards and their number. */
nvmlDevice_t node_devices(unsigned int *count);

/* The versions of the driver. */
const char *node_driver_version(void);
unsigned int node_cuda_version(void);

/* The card behind a handle, or NVML_ERROR_INVALID_ARGUMENT. */
nvmlReturn_t node_card(nvmlDevice_t handle, const sim_card **card);

/* Copies a text into a caller's buffer, or says that it is too small. */
nvmlReturn_t give_text(char *buffer, unsigned int length, const char *text);

/* What the state file said, in NVML's words. */
nvmlReturn_t node_error(sim_status status);

#endif
