/* GPU instances of MIG. */
#include "instance.h"

#include <stdio.h>
#include <string.h>

#include "capability.h"

#define NAME_PREFIX "MIG "

static struct nvmlGpuInstance_st handles[SIM_MAX_CARDS][SIM_MAX_GPU_INSTANCES];

nvmlReturn_t mig_enabled(nvmlDevice_t device, const sim_card **card, sim_condition *condition) {
  TRY(mig_card(device, card, condition));
  if (!condition->mig.enabled) return NVML_ERROR_NOT_SUPPORTED;
  return mig_may(SIM_CAPABILITY_CONFIG);
}

static nvmlGpuInstance_t handle_of(nvmlDevice_t device, uint32_t place, uint32_t serial) {
  unsigned int count;
  nvmlGpuInstance_t handle = &handles[device - node_devices(&count)][place];
  handle->device = device;
  handle->place = place;
  __atomic_store_n(&handle->serial, serial, __ATOMIC_RELEASE);
  return handle;
}

nvmlReturn_t instance_check(nvmlGpuInstance_t handle, instance_view *view) {
  sim_condition condition;
  TRY(node_ready());
  uintptr_t offset = (uintptr_t)handle - (uintptr_t)handles;
  NEED(handle != NULL && offset < sizeof handles && offset % sizeof **handles == 0 && handle->device != NULL);
  TRY(mig_card(handle->device, &view->card, &condition));
  view->geometry = sim_geometry_of(view->card);
  view->now = condition.mig.instances[handle->place];
  view->profile = sim_profile_find(view->geometry, view->now.profile, false);
  NEED(condition.mig.enabled && view->now.serial != 0 && view->now.serial == handle->serial && view->profile != NULL);
  return NVML_SUCCESS;
}

/* ---- profiles ---------------------------------------------------------------------------------------------------- */

/* The profile of that number or id: INVALID_ARGUMENT for numbers that NVML does not have. */
static nvmlReturn_t find_profile(nvmlDevice_t device, unsigned int key, bool by_id, const sim_card **card,
                                 const sim_profile **profile) {
  sim_condition now;
  TRY(mig_card(device, card, &now));
  NEED(by_id || key < NVML_GPU_INSTANCE_PROFILE_COUNT);
  *profile = sim_profile_find(sim_geometry_of(*card), key, by_id);
  return *profile != NULL ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

static nvmlGpuInstanceProfileInfo_t describe(const sim_card *card, const sim_profile *profile) {
  return (nvmlGpuInstanceProfileInfo_t){
      .id = profile->id,
      .sliceCount = profile->slices,
      .instanceCount = profile->instances,
      .multiprocessorCount = profile->multiprocessors,
      .copyEngineCount = profile->copy_engines,
      .decoderCount = profile->decoders,
      .jpegCount = profile->jpegs,
      .ofaCount = profile->ofas,
      .memorySizeMB = sim_profile_bytes(sim_geometry_of(card), profile, card) >> 20,
  };
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int profile,
                                                 nvmlGpuInstanceProfileInfo_t *info) {
  const sim_card *card;
  const sim_profile *found;
  NEED(info != NULL);
  TRY(find_profile(device, profile, false, &card, &found));
  *info = describe(card, found);
  return NVML_SUCCESS;
}

/* Fills the versioned structure at `info`, whose version the caller has set. */
static nvmlReturn_t fill_versioned(const sim_card *card, const sim_profile *profile, void *info) {
  const nvmlGpuInstanceProfileInfo_t plain = describe(card, profile);
  nvmlGpuInstanceProfileInfo_v2_t *second = info;
  nvmlGpuInstanceProfileInfo_v3_t *third = info;
  if (second->version == nvmlGpuInstanceProfileInfo_v2) {
    memset(second, 0, sizeof *second);
    second->version = nvmlGpuInstanceProfileInfo_v2;
    memcpy(&second->id, &plain.id, offsetof(nvmlGpuInstanceProfileInfo_t, memorySizeMB));
    second->memorySizeMB = plain.memorySizeMB;
    snprintf(second->name, sizeof second->name, NAME_PREFIX "%s", profile->name);
    return NVML_SUCCESS;
  }
  if (third->version != nvmlGpuInstanceProfileInfo_v3) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  memset(third, 0, sizeof *third);
  third->version = nvmlGpuInstanceProfileInfo_v3;
  third->id = plain.id;
  const size_t rest = offsetof(nvmlGpuInstanceProfileInfo_t, sliceCount);
  memcpy(&third->sliceCount, &plain.sliceCount, offsetof(nvmlGpuInstanceProfileInfo_t, memorySizeMB) - rest);
  third->memorySizeMB = plain.memorySizeMB;
  snprintf(third->name, sizeof third->name, NAME_PREFIX "%s", profile->name);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned int profile,
                                                  nvmlGpuInstanceProfileInfo_v2_t *info) {
  const sim_card *card;
  const sim_profile *found;
  NEED(info != NULL);
  TRY(find_profile(device, profile, false, &card, &found));
  return fill_versioned(card, found, info);
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned int profileId,
                                                      nvmlGpuInstanceProfileInfo_v2_t *info) {
  const sim_card *card;
  const sim_profile *found;
  NEED(info != NULL);
  TRY(find_profile(device, profileId, true, &card, &found));
  return fill_versioned(card, found, info);
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned int profileId,
                                                           nvmlGpuInstancePlacement_t *placements,
                                                           unsigned int *count) {
  const sim_card *card;
  const sim_profile *profile;
  NEED(count != NULL);
  TRY(find_profile(device, profileId, true, &card, &profile));
  TRY(mig_may(SIM_CAPABILITY_CONFIG));
  unsigned int number = 0;
  for (uint32_t start = 0; start < SIM_PROFILE_MOST_PLACEMENTS; start++) {
    if ((profile->starts >> start & 1) == 0) continue;
    if (placements != NULL) placements[number] = (nvmlGpuInstancePlacement_t){.start = start, .size = profile->size};
    number++;
  }
  *count = number;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, unsigned int profileId,
                                                        nvmlGpuInstancePlacement_t *placements, unsigned int *count) {
  /* The first version asked for a buffer. */
  NEED(placements != NULL);
  return nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profileId, placements, count);
}

nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned int profileId,
                                                       unsigned int *count) {
  const sim_card *card;
  sim_condition now;
  NEED(count != NULL);
  TRY(mig_enabled(device, &card, &now));
  const sim_profile *profile = sim_profile_find(sim_geometry_of(card), profileId, true);
  if (profile == NULL) return NVML_ERROR_NOT_SUPPORTED;
  *count = sim_mig_capacity(sim_geometry_of(card), &now.mig, profile);
  return NVML_SUCCESS;
}

/* ---- instances --------------------------------------------------------------------------------------------------- */

static nvmlReturn_t create(nvmlDevice_t device, unsigned int profile, const nvmlGpuInstancePlacement_t *placement,
                           nvmlGpuInstance_t *made) {
  const sim_card *card;
  sim_condition now;
  sim_session *session;
  uint32_t place = 0;
  uint32_t serial = 0;
  NEED(made != NULL);
  TRY(mig_enabled(device, &card, &now));
  if (placement != NULL) {
    const sim_profile *found = sim_profile_find(sim_geometry_of(card), profile, true);
    NEED(found != NULL && placement->size == found->size && placement->start < SIM_PROFILE_MOST_PLACEMENTS);
  }
  TRY(node_writer(&session));
  TRY(mig_error(sim_mig_create(session, card, device->card, profile,
                               placement != NULL ? placement->start : SIM_ANYWHERE, &place, &serial)));
  *made = handle_of(device, place, serial);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned int profileId, nvmlGpuInstance_t *gpuInstance) {
  return create(device, profileId, NULL, gpuInstance);
}

nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned int profileId,
                                                      const nvmlGpuInstancePlacement_t *placement,
                                                      nvmlGpuInstance_t *gpuInstance) {
  NEED(placement != NULL);
  return create(device, profileId, placement, gpuInstance);
}

nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t gpuInstance) {
  instance_view view;
  sim_session *session;
  TRY(instance_check(gpuInstance, &view));
  TRY(mig_may(SIM_CAPABILITY_CONFIG));
  TRY(node_writer(&session));
  return mig_error(
      sim_mig_destroy(session, view.card, gpuInstance->device->card, gpuInstance->place, gpuInstance->serial));
}

nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned int profileId, nvmlGpuInstance_t *gpuInstances,
                                       unsigned int *count) {
  const sim_card *card;
  sim_condition now;
  NEED(gpuInstances != NULL && count != NULL);
  TRY(mig_enabled(device, &card, &now));
  const sim_profile *profile = sim_profile_find(sim_geometry_of(card), profileId, true);
  NEED(profile != NULL);
  *count = 0;
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
    if (now.mig.instances[i].serial != 0 && now.mig.instances[i].profile == profile->number)
      gpuInstances[(*count)++] = handle_of(device, i, now.mig.instances[i].serial);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *gpuInstance) {
  const sim_card *card;
  sim_condition now;
  NEED(gpuInstance != NULL);
  TRY(mig_enabled(device, &card, &now));
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
    const sim_gpu_instance *instance = &now.mig.instances[i];
    if (instance->serial == 0 || sim_instance_id(sim_geometry_of(card), instance->start, instance->size) != id)
      continue;
    *gpuInstance = handle_of(device, i, instance->serial);
    return NVML_SUCCESS;
  }
  return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t gpuInstance, nvmlGpuInstanceInfo_t *info) {
  instance_view view;
  NEED(info != NULL);
  TRY(instance_check(gpuInstance, &view));
  *info = (nvmlGpuInstanceInfo_t){
      .device = gpuInstance->device,
      .id = sim_instance_id(view.geometry, view.now.start, view.now.size),
      .profileId = view.profile->id,
      .placement = {.start = view.now.start, .size = view.now.size},
  };
  return NVML_SUCCESS;
}
