/* The MIG mode, and MIG devices: handles that stand for a compute instance. */
#include <stdlib.h>
#include <string.h>

#include "capability.h"
#include "instance.h"

nvmlReturn_t mig_card(nvmlDevice_t device, const sim_card **card, sim_condition *condition) {
  TRY(node_card(device, card));
  if (sim_geometry_of(*card) == NULL) return NVML_ERROR_NOT_SUPPORTED;
  return node_error(sim_condition_read(node_store(), *card, device->card, condition));
}

nvmlReturn_t mig_may(uint32_t capability) {
  return sim_capability_held(node_store(), capability) ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
}

nvmlReturn_t mig_error(sim_mig_result result) {
  switch (result) {
    case SIM_MIG_DONE: return NVML_SUCCESS;
    case SIM_MIG_IN_USE: return NVML_ERROR_IN_USE;
    case SIM_MIG_NO_ROOM: return NVML_ERROR_INSUFFICIENT_RESOURCES;
    case SIM_MIG_NO_SUCH: return NVML_ERROR_INVALID_ARGUMENT;
    case SIM_MIG_NOT_SUPPORTED: return NVML_ERROR_NOT_SUPPORTED;
    default: return NVML_ERROR_UNKNOWN;
  }
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *currentMode, unsigned int *pendingMode) {
  const sim_card *card;
  sim_condition now;
  NEED(currentMode != NULL && pendingMode != NULL);
  TRY(mig_card(device, &card, &now));
  *currentMode = now.mig.enabled;
  *pendingMode = now.mig.pending;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned int mode, nvmlReturn_t *activationStatus) {
  const sim_card *card;
  sim_condition now;
  sim_session *session;
  bool activated = false;
  NEED(activationStatus != NULL && mode <= NVML_DEVICE_MIG_ENABLE);
  TRY(mig_card(device, &card, &now));
  TRY(mig_may(SIM_CAPABILITY_CONFIG));
  TRY(node_writer(&session));
  TRY(mig_error(sim_mig_set_mode(session, card, device->card, mode == NVML_DEVICE_MIG_ENABLE, &activated)));
  *activationStatus = activated ? NVML_SUCCESS : NVML_ERROR_IN_USE;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
  const sim_card *card;
  sim_condition now;
  NEED(count != NULL);
  nvmlReturn_t result = mig_card(device, &card, &now);
  *count = result == NVML_SUCCESS && now.mig.enabled ? sim_geometry_of(card)->compute_slices : 0;
  return result == NVML_ERROR_NOT_SUPPORTED ? NVML_SUCCESS : result;
}

/* ---- MIG devices ------------------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *isMigDevice) {
  const sim_card *card;
  NEED(isMigDevice != NULL);
  TRY(node_device(device, &card));
  *isMigDevice = device->serial != 0;
  return NVML_SUCCESS;
}

typedef struct found_device {
  uint32_t order, place, id;
} found_device;

static int by_order(const void *left, const void *right) {
  const found_device *a = left;
  const found_device *b = right;
  return a->order < b->order ? -1 : a->order > b->order;
}

/* The card's MIG devices that this process may see, by the ids of their instances. */
static uint32_t visible(const sim_card *card, const sim_mig *mig, found_device *found) {
  uint32_t count = 0;
  bool all = sim_capability_held(node_store(), SIM_CAPABILITY_MONITOR);
  for (uint32_t i = 0; mig->enabled && i < SIM_MAX_GPU_INSTANCES; i++) {
    const sim_gpu_instance *instance = &mig->instances[i];
    if (instance->serial == 0) continue;
    uint32_t name = sim_instance_id(sim_geometry_of(card), instance->start, instance->size);
    for (uint32_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++)
      if (instance->compute[j].serial != 0 && (all || mig_visible(card, name, j)))
        found[count++] = (found_device){.order = name << 8 | j, .place = i, .id = j};
  }
  qsort(found, count, sizeof *found, by_order);
  return count;
}

bool mig_visible(const sim_card *card, uint32_t instance, uint32_t compute) {
  return sim_capability_held(node_store(), sim_capability_minor(card->minor_number, instance, SIM_ALL)) &&
         sim_capability_held(node_store(), sim_capability_minor(card->minor_number, instance, compute));
}

#define MOST_DEVICES (SIM_MAX_GPU_INSTANCES * SIM_MAX_COMPUTE_INSTANCES)

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *migDevice) {
  const sim_card *card;
  sim_condition now;
  found_device found[MOST_DEVICES];
  NEED(migDevice != NULL);
  TRY(mig_card(device, &card, &now));
  if (!now.mig.enabled) return NVML_ERROR_NOT_SUPPORTED;
  NEED(index < sim_geometry_of(card)->compute_slices);
  if (index >= visible(card, &now.mig, found)) return NVML_ERROR_NOT_FOUND;
  *migDevice = node_mig_device(device, &now.mig, found[index].place, found[index].id);
  return NVML_SUCCESS;
}

nvmlReturn_t mig_by_uuid(const char *uuid, nvmlDevice_t *device) {
  unsigned int count;
  nvmlDevice_t cards = node_devices(&count);
  for (unsigned int i = 0; i < count; i++) {
    const sim_card *card;
    sim_condition now;
    found_device found[MOST_DEVICES];
    if (mig_card(&cards[i], &card, &now) != NVML_SUCCESS) continue;
    uint32_t number = visible(card, &now.mig, found);
    for (uint32_t j = 0; j < number; j++) {
      char name[48];
      sim_mig_uuid(card, &now.mig.instances[found[j].place], found[j].id, name);
      if (strcmp(name, uuid) != 0) continue;
      *device = node_mig_device(&cards[i], &now.mig, found[j].place, found[j].id);
      return NVML_SUCCESS;
    }
  }
  return NVML_ERROR_NOT_FOUND;
}

static nvmlReturn_t mig_device(nvmlDevice_t device, const sim_card **facts) {
  TRY(node_device(device, facts));
  return device->serial != 0 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

/* The condition that a valid MIG device was found in. */
static nvmlReturn_t instance_of(nvmlDevice_t device, sim_gpu_instance *instance) {
  const sim_card *facts;
  sim_condition now;
  TRY(mig_device(device, &facts));
  TRY(mig_card(device->parent, &facts, &now));
  *instance = now.mig.instances[device->place];
  NEED(instance->serial != 0);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t migDevice, nvmlDevice_t *device) {
  const sim_card *facts;
  NEED(device != NULL);
  TRY(mig_device(migDevice, &facts));
  *device = migDevice->parent;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id) {
  sim_gpu_instance instance;
  NEED(id != NULL);
  TRY(instance_of(device, &instance));
  *id = sim_instance_id(sim_geometry_of(&device->parent->facts), instance.start, instance.size);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id) {
  const sim_card *facts;
  NEED(id != NULL);
  TRY(mig_device(device, &facts));
  *id = device->id;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
  sim_gpu_instance instance;
  NEED(attributes != NULL);
  TRY(instance_of(device, &instance));
  const sim_profile *profile = sim_profile_find(sim_geometry_of(&device->parent->facts), instance.profile, false);
  if (profile == NULL) return NVML_ERROR_UNKNOWN;
  *attributes = (nvmlDeviceAttributes_t){
      .multiprocessorCount = device->facts.sm_count,
      .sharedCopyEngineCount = profile->copy_engines,
      .sharedDecoderCount = profile->decoders,
      .sharedJpegCount = profile->jpegs,
      .sharedOfaCount = profile->ofas,
      .gpuInstanceSliceCount = profile->slices,
      .computeInstanceSliceCount = instance.compute[device->id].slices,
      .memorySizeMB = device->facts.memory_bytes >> 20,
  };
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
  return nvmlDeviceGetAttributes_v2(device, attributes);
}
