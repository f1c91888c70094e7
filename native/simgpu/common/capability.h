/* MIG capabilities: the device files /dev/nvidia-caps/nvidia-cap<minor> that say who may configure MIG, and who may
 * use which instance.
 *
 * Numbers as in /proc/driver/nvidia-caps/mig-minors: config 1, monitor 2, then for each card 15 GPU instances, each
 * with itself and its eight compute instances.  A process has a capability if it can open the file for reading.
 */
#ifndef SIMGPU_CAPABILITY_H
#define SIMGPU_CAPABILITY_H

#include "store.h"

#define SIM_CAPABILITY_CONFIG 1u
#define SIM_CAPABILITY_MONITOR 2u

/* The minor number of a GPU instance of the card with that device minor, or with `compute` of a compute instance. */
uint32_t sim_capability_minor(uint32_t device_minor, uint32_t instance, uint32_t compute);

/* Whether this process has it. */
bool sim_capability_held(const sim_store *store, uint32_t minor);

/* Makes and removes the device file and its entry below proc/driver/nvidia/capabilities, as far as this process may:
 * in a container the files are those that were put there.  `compute` UINT32_MAX: the GPU instance itself. */
void sim_capability_add(const sim_store *store, const sim_card *card, uint32_t instance, uint32_t compute);
void sim_capability_remove(const sim_store *store, const sim_card *card, uint32_t instance, uint32_t compute);

/* Makes the files of a node with MIG: config for root alone, monitor for everybody. */
void sim_capability_init(const sim_store *store);

#endif
