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

#include "mig.h"

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

/* A card or a MIG device; handles are addresses in two arrays, that of cards in PCI order. */
struct nvmlDevice_st {
  sim_card facts;
  uint32_t card;       /* index in the state file */
  uint32_t serial;     /* of the compute instance; 0: the handle is a card's */
  uint32_t place, id;  /* of the GPU instance in the card's condition, and of the compute instance in it */
  nvmlDevice_t parent; /* of a MIG device */
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

/* The card behind a handle, or NVML_ERROR_INVALID_ARGUMENT; NVML_ERROR_NOT_SUPPORTED for a MIG device. */
nvmlReturn_t node_card(nvmlDevice_t handle, const sim_card **card);

/* The same for functions that also know MIG devices: `facts` are then the device's own name, UUID, memory and
 * processors, and the rest of its card. */
nvmlReturn_t node_device(nvmlDevice_t handle, const sim_card **facts);

/* NVML_ERROR_GPU_IS_LOST of a card that is. */
nvmlReturn_t node_answers(nvmlDevice_t card);

/* The handle of a MIG device of a card. */
nvmlDevice_t node_mig_device(nvmlDevice_t parent, const sim_mig *mig, uint32_t place, uint32_t id);

/* What to give to sim_usage.only for that device. */
uint32_t node_instance(nvmlDevice_t device);

/* A slot of this process's own, for changing the state; NVML_ERROR_NO_PERMISSION where that may only be read. */
nvmlReturn_t node_writer(sim_session **session);

/* Copies a text into a caller's buffer, or says that it is too small. */
nvmlReturn_t give_text(char *buffer, unsigned int length, const char *text);

/* What the state file said, in NVML's words. */
nvmlReturn_t node_error(sim_status status);

#endif
