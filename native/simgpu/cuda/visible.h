/* CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, as the CUDA programming guide and the MIG user guide describe them. */
#ifndef SIMGPU_CUDA_VISIBLE_H
#define SIMGPU_CUDA_VISIBLE_H

#include "mig.h"

/* A card, or one MIG device of it. */
typedef struct choice {
  uint32_t card; /* its position in node->cards */
  bool mig;
  uint32_t place, id;        /* of the GPU instance in the card's condition, and of the compute instance */
  sim_gpu_instance instance; /* as it was */
} choice;

/* Chooses among the cards that this process may use: writes them in CUDA's order and returns their number.  `list` and
 * `order` are the variables' values or NULL.  A process sees one MIG device, and then no other card. */
uint32_t visible_devices(const sim_store *store, const sim_node *node, const char *list, const char *order,
                         choice chosen[SIM_MAX_CARDS]);

#endif
