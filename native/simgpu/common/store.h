/* Access to the state file: where it is, whether it is one, what the node's cards are.
 *
 * A store is never closed: closing any descriptor of a file drops all record locks that the process holds on it,
 * also those of the other library.
 */
#ifndef SIMGPU_STORE_H
#define SIMGPU_STORE_H

#include <limits.h>
#include <stdbool.h>

#include "state.h"
#include "status.h"

typedef struct sim_store {
  int fd;
  sim_state *map; /* NULL for readers */
  char root[PATH_MAX];
} sim_store;

/* The node's constant part, checked and copied: nothing in it changes under its reader. */
typedef struct sim_node {
  uint32_t card_count;
  uint32_t cuda_version;
  char driver_version[36];
  sim_card cards[SIM_MAX_CARDS]; /* in the order of their PCI addresses */
  uint32_t index[SIM_MAX_CARDS]; /* of cards[i] in the state file */
} sim_node;

/* $SIMGPU_ROOT, or "/". */
const char *sim_root(void);

/* Opens the state file below `root`, for reading or with a shared mapping for writing. */
sim_status sim_store_open(sim_store *store, const char *root, bool writable);

/* Reads and checks the node. */
sim_status sim_store_node(const sim_store *store, sim_node *node);

/* Reads the version of the driver that is loaded now. */
bool sim_store_version(const sim_store *store, char version[36]);

/* Whether this process may use the card: its device file exists and can be opened, as with a real driver. */
bool sim_card_visible(const sim_store *store, const sim_card *card);

/* Whether `name`, relative to the root, can be opened for reading and writing. */
bool sim_store_usable(const sim_store *store, const char *name);

#endif
