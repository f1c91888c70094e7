/* CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER, as the CUDA programming guide describes them. */
#ifndef SIMGPU_CUDA_VISIBLE_H
#define SIMGPU_CUDA_VISIBLE_H

#include "store.h"

/* Chooses among `count` cards given by their positions in node->cards, in PCI order: writes the chosen positions
 * in CUDA's order to `chosen` and returns their number.  `list` is the variable's value or NULL; `order` likewise. */
uint32_t visible_cards(const sim_node *node, const uint32_t *usable, uint32_t count, const char *list,
                       const char *order, uint32_t chosen[SIM_MAX_CARDS]);

#endif
