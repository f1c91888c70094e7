/* MIG: GPU instances and compute instances of a card.
 *
 * Rules (NVIDIA's MIG user guide, nvml.h): an instance occupies the memory slices of its placement and none may overlap; there are
 * never more compute slices in use than the card has, nor more instances of a profile than its geometry allows; a GPU
 * instance goes only without compute instances and without processes, a compute instance only without processes.
 */
#ifndef SIMGPU_MIG_H
#define SIMGPU_MIG_H

#include "account.h"
#include "profile.h"

typedef enum sim_mig_result {
  SIM_MIG_DONE = 0,
  SIM_MIG_IN_USE,
  SIM_MIG_NO_ROOM,       /* no free placement */
  SIM_MIG_NO_SUCH,       /* profile, placement or instance */
  SIM_MIG_NOT_SUPPORTED, /* no MIG on this card, or not enabled */
  SIM_MIG_BROKEN,        /* the state file */
} sim_mig_result;

#define SIM_ANYWHERE UINT32_MAX

/* A copy of the card's condition at one instant, with whatever cannot be taken out of it. */
sim_status sim_condition_read(const sim_store *store, const sim_card *card, uint32_t index, sim_condition *copy);

/* Whether a GPU instance of that profile may begin at `start` now. */
bool sim_mig_fits(const sim_geometry *geometry, const sim_mig *mig, const sim_profile *profile, uint32_t start);

/* How many more instances of the profile can be made, one after the other. */
uint32_t sim_mig_capacity(const sim_geometry *geometry, const sim_mig *mig, const sim_profile *profile);

/* The same two for compute instances. */
bool sim_compute_fits(const sim_gpu_instance *instance, const sim_compute_profile *profile, uint32_t start);
uint32_t sim_compute_capacity(const sim_gpu_instance *instance, const sim_compute_profile *profile);

/* Changes; `index` is the card's in the state file.  An instance is named by its place in the condition's array and its
 * serial number.  `start` may be SIM_ANYWHERE: then the placement that leaves most room for others. */
sim_mig_result sim_mig_set_mode(sim_session *session, const sim_card *card, uint32_t index, bool enable,
                                bool *activated);
sim_mig_result sim_mig_create(sim_session *session, const sim_card *card, uint32_t index, uint32_t profile_id,
                              uint32_t start, uint32_t *place, uint32_t *serial);
sim_mig_result sim_mig_destroy(sim_session *session, const sim_card *card, uint32_t index, uint32_t place,
                               uint32_t serial);
sim_mig_result sim_compute_create(sim_session *session, const sim_card *card, uint32_t index, uint32_t place,
                                  uint32_t serial, uint32_t profile, uint32_t start, uint32_t *id);
sim_mig_result sim_compute_destroy(sim_session *session, const sim_card *card, uint32_t index, uint32_t place,
                                   uint32_t id, uint32_t serial);

/* What nvidia-smi --gpu-reset does: a pending mode comes into force and all instances are gone. */
sim_mig_result sim_mig_reset(sim_session *session, const sim_card *card, uint32_t index);

/* Binds the process to a MIG device; false if it is not there any more. */
bool sim_mig_attach(sim_session *session, const sim_card *card, uint32_t index, uint32_t place, uint32_t id);

/* MIG-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx: a function of the card, the placement and the compute instance. */
void sim_mig_uuid(const sim_card *card, const sim_gpu_instance *instance, uint32_t id, char uuid[48]);

/* Makes `facts` of the card those of a MIG device: name, UUID, memory and processors. */
void sim_mig_facts(sim_card *facts, const sim_gpu_instance *instance, uint32_t id);

#endif
