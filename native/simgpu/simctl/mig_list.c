/* How simctl shows MIG. */
#include <stdio.h>
#include <string.h>

#include "mig.h"
#include "simctl.h"

static bool read_mig(const sim_store *store, const sim_card *card, uint32_t index, sim_mig *mig) {
  sim_condition now;
  if (sim_geometry_of(card) == NULL || sim_condition_read(store, card, index, &now) != SIM_OK) return false;
  *mig = now.mig;
  return true;
}

static void compute_json(const sim_card *card, const sim_profile *profile, const sim_gpu_instance *instance) {
  const char *separator = "";
  for (uint32_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++) {
    char uuid[48];
    sim_compute_profile compute;
    const sim_compute_instance *part = &instance->compute[j];
    if (part->serial == 0 || !sim_compute_profile_find(sim_geometry_of(card), profile, part->profile, &compute))
      continue;
    sim_mig_uuid(card, instance, j, uuid);
    printf("%s{\"id\": %u, \"profile\": \"%s\", \"start\": %u, \"slices\": %u, \"uuid\": \"%s\"}", separator, j,
           compute.name, part->start, part->slices, uuid);
    separator = ", ";
  }
}

void mig_json(const sim_store *store, const sim_card *card, uint32_t index) {
  sim_mig mig;
  const char *separator = "";
  const sim_geometry *geometry = sim_geometry_of(card);
  if (!read_mig(store, card, index, &mig)) {
    printf("null");
    return;
  }
  printf("{\"enabled\": %s, \"pending\": %s, \"instances\": [", mig.enabled ? "true" : "false",
         mig.pending ? "true" : "false");
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
    const sim_gpu_instance *instance = &mig.instances[i];
    const sim_profile *profile = sim_profile_find(geometry, instance->profile, false);
    sim_usage usage = {.only = sim_instance_word(index, i, 0)};
    if (instance->serial == 0 || profile == NULL || sim_usage_read(store, index, &usage) != SIM_OK) continue;
    printf(
        "%s\n   {\"id\": %u, \"profile\": \"%s\", \"start\": %u, \"size\": %u, \"memory_bytes\": %llu, "
        "\"used_bytes\": %llu, \"compute\": [",
        separator, sim_instance_id(geometry, instance->start, instance->size), profile->name, instance->start,
        instance->size, (unsigned long long)sim_profile_bytes(geometry, profile, card),
        (unsigned long long)usage.used_bytes);
    compute_json(card, profile, instance);
    printf("]}");
    separator = ",";
  }
  printf("]}");
}

void mig_process_json(const sim_store *store, const sim_card *card, uint32_t index, uint32_t word) {
  sim_mig mig;
  uint32_t place = word >> 8 & 0xff;
  if (word == 0 || place >= SIM_MAX_GPU_INSTANCES || !read_mig(store, card, index, &mig) ||
      mig.instances[place].serial == 0) {
    printf("\"gpu_instance\": null, \"compute_instance\": null");
    return;
  }
  printf("\"gpu_instance\": %u, \"compute_instance\": %u",
         sim_instance_id(sim_geometry_of(card), mig.instances[place].start, mig.instances[place].size), word & 0xff);
}

static void devices_text(const sim_card *card, const sim_gpu_instance *instance, uint32_t *number) {
  const sim_geometry *geometry = sim_geometry_of(card);
  const sim_profile *profile = sim_profile_find(geometry, instance->profile, false);
  for (uint32_t j = 0; profile != NULL && j < SIM_MAX_COMPUTE_INSTANCES; j++) {
    char uuid[48];
    sim_compute_profile compute;
    if (instance->compute[j].serial == 0 ||
        !sim_compute_profile_find(geometry, profile, instance->compute[j].profile, &compute))
      continue;
    sim_mig_uuid(card, instance, j, uuid);
    printf("  MIG %-14s Device %2u: (UUID: %s)\n", compute.name, (*number)++, uuid);
  }
}

void mig_text(const sim_store *store, const sim_card *card, uint32_t index) {
  sim_mig mig;
  uint32_t number = 0;
  if (!read_mig(store, card, index, &mig)) return;
  /* By their ids, as NVML counts them. */
  for (uint32_t id = 0; id < 2 * SIM_MAX_GPU_INSTANCES; id++)
    for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
      const sim_gpu_instance *instance = &mig.instances[i];
      if (instance->serial != 0 && sim_instance_id(sim_geometry_of(card), instance->start, instance->size) == id)
        devices_text(card, instance, &number);
    }
}

bool mig_has(const sim_store *store, const sim_card *card, uint32_t index, const char *uuid) {
  sim_mig mig;
  char found[48];
  if (!read_mig(store, card, index, &mig)) return false;
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
    for (uint32_t j = 0; mig.instances[i].serial != 0 && j < SIM_MAX_COMPUTE_INSTANCES; j++) {
      if (mig.instances[i].compute[j].serial == 0) continue;
      sim_mig_uuid(card, &mig.instances[i], j, found);
      if (strcmp(found, uuid) == 0) return true;
    }
  return false;
}
