/* Compute instances of MIG. */
#include <stdio.h>
#include <string.h>

#include "capability.h"
#include "instance.h"

struct nvmlComputeInstance_st {
  nvmlGpuInstance_t parent;
  uint32_t parent_serial;
  uint32_t id;
  uint32_t serial;
};

static struct nvmlComputeInstance_st handles[SIM_MAX_CARDS][SIM_MAX_GPU_INSTANCES][SIM_MAX_COMPUTE_INSTANCES];

static nvmlComputeInstance_t handle_of(nvmlGpuInstance_t parent, uint32_t id, uint32_t serial) {
  unsigned int count;
  nvmlComputeInstance_t handle = &handles[parent->device - node_devices(&count)][parent->place][id];
  handle->parent = parent;
  handle->parent_serial = parent->serial;
  handle->id = id;
  __atomic_store_n(&handle->serial, serial, __ATOMIC_RELEASE);
  return handle;
}

static nvmlReturn_t compute_check(nvmlComputeInstance_t handle, instance_view *view) {
  TRY(node_ready());
  uintptr_t offset = (uintptr_t)handle - (uintptr_t)handles;
  NEED(handle != NULL && offset < sizeof handles && offset % sizeof ***handles == 0 && handle->parent != NULL);
  TRY(instance_check(handle->parent, view));
  NEED(view->now.serial == handle->parent_serial && handle->serial != 0 &&
       view->now.compute[handle->id].serial == handle->serial);
  return NVML_SUCCESS;
}

/* The compute profile of that number; INVALID_ARGUMENT for numbers that NVML does not have. */
static nvmlReturn_t find_profile(nvmlGpuInstance_t instance, unsigned int number, instance_view *view,
                                 sim_compute_profile *profile) {
  TRY(instance_check(instance, view));
  NEED(number < NVML_COMPUTE_INSTANCE_PROFILE_COUNT);
  return sim_compute_profile_find(view->geometry, view->profile, number, profile) ? NVML_SUCCESS
                                                                                  : NVML_ERROR_NOT_SUPPORTED;
}

/* The same for functions that only the privileged may call. */
static nvmlReturn_t find_for_change(nvmlGpuInstance_t instance, unsigned int number, instance_view *view,
                                    sim_compute_profile *profile) {
  TRY(find_profile(instance, number, view, profile));
  return mig_may(SIM_CAPABILITY_CONFIG);
}

static nvmlComputeInstanceProfileInfo_t describe(const instance_view *view, const sim_compute_profile *profile) {
  return (nvmlComputeInstanceProfileInfo_t){
      .id = profile->number,
      .sliceCount = profile->slices,
      .instanceCount = profile->instances,
      .multiprocessorCount = profile->multiprocessors,
      .sharedCopyEngineCount = view->profile->copy_engines,
      .sharedDecoderCount = view->profile->decoders,
      .sharedJpegCount = view->profile->jpegs,
      .sharedOfaCount = view->profile->ofas,
  };
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t gpuInstance, unsigned int profile,
                                                          unsigned int engProfile,
                                                          nvmlComputeInstanceProfileInfo_t *info) {
  instance_view view;
  sim_compute_profile found;
  NEED(info != NULL && engProfile < NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT);
  TRY(find_profile(gpuInstance, profile, &view, &found));
  *info = describe(&view, &found);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t gpuInstance, unsigned int profile,
                                                           unsigned int engProfile,
                                                           nvmlComputeInstanceProfileInfo_v2_t *info) {
  nvmlComputeInstanceProfileInfo_t plain;
  instance_view view;
  sim_compute_profile found;
  NEED(info != NULL);
  const unsigned int version = info->version;
  if (version != nvmlComputeInstanceProfileInfo_v2 && version != nvmlComputeInstanceProfileInfo_v3)
    return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  TRY(nvmlGpuInstanceGetComputeInstanceProfileInfo(gpuInstance, profile, engProfile, &plain));
  TRY(find_profile(gpuInstance, profile, &view, &found));
  /* The third version is the second with capabilities, of which there are none, at its end. */
  memset(info, 0,
         version == nvmlComputeInstanceProfileInfo_v2 ? sizeof *info : sizeof(nvmlComputeInstanceProfileInfo_v3_t));
  info->version = version;
  memcpy(&info->id, &plain, sizeof plain);
  snprintf(info->name, sizeof info->name, "MIG %s", found.name);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t gpuInstance, unsigned int profileId,
                                                                unsigned int *count) {
  instance_view view;
  sim_compute_profile profile;
  NEED(count != NULL);
  TRY(find_for_change(gpuInstance, profileId, &view, &profile));
  *count = sim_compute_capacity(&view.now, &profile);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t gpuInstance, unsigned int profileId,
                                                                 nvmlComputeInstancePlacement_t *placements,
                                                                 unsigned int *count) {
  instance_view view;
  sim_compute_profile profile;
  NEED(count != NULL);
  TRY(find_for_change(gpuInstance, profileId, &view, &profile));
  unsigned int number = 0;
  for (uint32_t start = 0; start < SIM_PROFILE_MOST_PLACEMENTS; start++) {
    if ((profile.starts >> start & 1) == 0) continue;
    if (placements != NULL)
      placements[number] = (nvmlComputeInstancePlacement_t){.start = start, .size = profile.slices};
    number++;
  }
  *count = number;
  return NVML_SUCCESS;
}

static nvmlReturn_t create(nvmlGpuInstance_t parent, unsigned int number,
                           const nvmlComputeInstancePlacement_t *placement, nvmlComputeInstance_t *made) {
  instance_view view;
  sim_compute_profile profile;
  sim_session *session;
  uint32_t id = 0;
  NEED(made != NULL);
  TRY(find_for_change(parent, number, &view, &profile));
  NEED(placement == NULL || (placement->size == profile.slices && placement->start < SIM_PROFILE_MOST_PLACEMENTS));
  TRY(node_writer(&session));
  TRY(mig_error(sim_compute_create(session, view.card, parent->device->card, parent->place, parent->serial, number,
                                   placement != NULL ? placement->start : SIM_ANYWHERE, &id)));
  TRY(instance_check(parent, &view));
  *made = handle_of(parent, id, view.now.compute[id].serial);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t gpuInstance, unsigned int profileId,
                                                  nvmlComputeInstance_t *computeInstance) {
  return create(gpuInstance, profileId, NULL, computeInstance);
}

nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t gpuInstance, unsigned int profileId,
                                                               const nvmlComputeInstancePlacement_t *placement,
                                                               nvmlComputeInstance_t *computeInstance) {
  NEED(placement != NULL);
  return create(gpuInstance, profileId, placement, computeInstance);
}

nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t computeInstance) {
  instance_view view;
  sim_session *session;
  TRY(compute_check(computeInstance, &view));
  TRY(mig_may(SIM_CAPABILITY_CONFIG));
  TRY(node_writer(&session));
  const struct nvmlGpuInstance_st *parent = computeInstance->parent;
  return mig_error(sim_compute_destroy(session, view.card, parent->device->card, parent->place, computeInstance->id,
                                       computeInstance->serial));
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t gpuInstance, unsigned int profileId,
                                                nvmlComputeInstance_t *computeInstances, unsigned int *count) {
  instance_view view;
  sim_compute_profile profile;
  NEED(computeInstances != NULL && count != NULL);
  TRY(find_for_change(gpuInstance, profileId, &view, &profile));
  *count = 0;
  for (uint32_t i = 0; i < SIM_MAX_COMPUTE_INSTANCES; i++)
    if (view.now.compute[i].serial != 0 && view.now.compute[i].profile == profileId)
      computeInstances[(*count)++] = handle_of(gpuInstance, i, view.now.compute[i].serial);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t gpuInstance, unsigned int id,
                                                   nvmlComputeInstance_t *computeInstance) {
  instance_view view;
  NEED(computeInstance != NULL);
  TRY(instance_check(gpuInstance, &view));
  TRY(mig_may(SIM_CAPABILITY_CONFIG));
  if (id >= SIM_MAX_COMPUTE_INSTANCES || view.now.compute[id].serial == 0) return NVML_ERROR_NOT_FOUND;
  *computeInstance = handle_of(gpuInstance, id, view.now.compute[id].serial);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t computeInstance, nvmlComputeInstanceInfo_t *info) {
  instance_view view;
  NEED(info != NULL);
  TRY(compute_check(computeInstance, &view));
  const sim_compute_instance *part = &view.now.compute[computeInstance->id];
  *info = (nvmlComputeInstanceInfo_t){
      .device = computeInstance->parent->device,
      .gpuInstance = computeInstance->parent,
      .id = computeInstance->id,
      .profileId = part->profile,
      .placement = {.start = part->start, .size = part->slices},
  };
  return NVML_SUCCESS;
}

/* The first version ended before the placement. */
nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t computeInstance, nvmlComputeInstanceInfo_t *info) {
  nvmlComputeInstanceInfo_t whole;
  NEED(info != NULL);
  TRY(nvmlComputeInstanceGetInfo_v2(computeInstance, &whole));
  memcpy(info, &whole, offsetof(nvmlComputeInstanceInfo_t, placement));
  return NVML_SUCCESS;
}
