/* What the functions about MIG share: the card's condition, permissions, and handles of instances.
 *
 * A handle is the address of an element of a static array, by card, place and id; its serial number tells whether the
 * instance that it was given out for is still there.
 */
#ifndef SIMGPU_NVML_INSTANCE_H
#define SIMGPU_NVML_INSTANCE_H

#include "node.h"

struct nvmlGpuInstance_st {
  nvmlDevice_t device;
  uint32_t place;
  uint32_t serial;
};

/* A GPU instance that a valid handle stands for. */
typedef struct instance_view {
  const sim_card *card;
  const sim_geometry *geometry;
  const sim_profile *profile;
  sim_gpu_instance now;
} instance_view;

/* The card and its condition; NVML_ERROR_NOT_SUPPORTED if its model has no MIG. */
nvmlReturn_t mig_card(nvmlDevice_t device, const sim_card **card, sim_condition *condition);

/* The same, and NVML_ERROR_NOT_SUPPORTED also if MIG is not enabled, NO_PERMISSION if the caller may not ask. */
nvmlReturn_t mig_enabled(nvmlDevice_t device, const sim_card **card, sim_condition *condition);

/* Whether this process has the capability. */
nvmlReturn_t mig_may(uint32_t capability);

/* Whether this process may use that compute instance. */
bool mig_visible(const sim_card *card, uint32_t instance, uint32_t compute);

/* The MIG device of that UUID, if this process may see it. */
nvmlReturn_t mig_by_uuid(const char *uuid, nvmlDevice_t *device);

/* What a change came to, in NVML's words. */
nvmlReturn_t mig_error(sim_mig_result result);

/* The instance behind a handle, or NVML_ERROR_INVALID_ARGUMENT. */
nvmlReturn_t instance_check(nvmlGpuInstance_t handle, instance_view *view);

#endif
