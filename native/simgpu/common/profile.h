/* MIG geometry: which GPU instances and compute instances a model can be cut into, and where they may lie.
 *
 * Source: NVIDIA's MIG user guide ("Supported MIG profiles", and its listings of `nvidia-smi mig -lgip`); profile
 * numbers are those of nvml.h, profile ids those of the listings.  Where no listing is public, the guide's fraction
 * of the card less a reserve: memory of 3g, 4g on H200 and all of B200, processors of 1g.45gb and 3g on B200.
 */
#ifndef SIMGPU_PROFILE_H
#define SIMGPU_PROFILE_H

#include <stdbool.h>

#include "state.h"

#define SIM_PROFILE_MOST_PLACEMENTS 8u

/* One kind of GPU instance. */
typedef struct sim_profile {
  const char *name;   /* 1g.10gb+me */
  uint32_t number;    /* NVML_GPU_INSTANCE_PROFILE_* */
  uint32_t id;        /* what NVML's functions take */
  uint32_t slices;    /* of compute */
  uint32_t instances; /* at most so many at once */
  uint32_t multiprocessors;
  uint32_t copy_engines, decoders, jpegs, ofas;
  uint32_t memory_mib; /* on a card with the model's own memory */
  uint32_t size;       /* slices of memory */
  uint32_t starts;     /* bit i: may begin at memory slice i */
} sim_profile;

/* One kind of compute instance within a GPU instance. */
typedef struct sim_compute_profile {
  char name[32];
  uint32_t number; /* NVML_COMPUTE_INSTANCE_PROFILE_*, also its id */
  uint32_t slices;
  uint32_t instances;
  uint32_t multiprocessors;
  uint32_t starts; /* bit i: may begin at compute slice i */
} sim_compute_profile;

/* What a model's cards are cut into. */
typedef struct sim_geometry {
  const char *model;
  uint32_t compute_slices, memory_slices;
  uint32_t memory_mib; /* the model's own */
  bool reset_needed;   /* to change the mode: Ampere */
  uint32_t profile_count;
  const sim_profile *profiles;
} sim_geometry;

/* The card's geometry, or NULL if it has no MIG. */
const sim_geometry *sim_geometry_of(const sim_card *card);

/* The profile of that number (`by_id` false) or id; NULL if there is none. */
const sim_profile *sim_profile_find(const sim_geometry *geometry, uint32_t key, bool by_id);

/* The bytes of an instance of that profile on the card, which may have been made with less memory than its model. */
uint64_t sim_profile_bytes(const sim_geometry *geometry, const sim_profile *profile, const sim_card *card);

/* The id of a GPU instance: unique within the card, and a function of the placement. */
uint32_t sim_instance_id(const sim_geometry *geometry, uint32_t start, uint32_t size);

/* The compute profile of that number in instances of `profile`; false if there is none. */
bool sim_compute_profile_find(const sim_geometry *geometry, const sim_profile *profile, uint32_t number,
                              sim_compute_profile *found);

#endif
