/* simctl: makes the driver root of a simulated node, shows it and changes it. */
#ifndef SIMCTL_H
#define SIMCTL_H

#include <limits.h>
#include <stdbool.h>

#include "account.h"

/* Exit statuses of the program. */
enum { SIMCTL_OK = 0, SIMCTL_FAILED = 1, SIMCTL_USAGE = 2 };

/* A new node, as the command line describes it. */
typedef struct node_plan {
  const char *root;
  const char *driver_version;
  const char *pci;  /* comma-separated addresses, or NULL */
  const char *numa; /* comma-separated nodes, or NULL */
  const char *uuid; /* comma-separated UUIDs, or NULL */
  const char *mig;  /* comma-separated profiles for each card, or NULL */
  uint64_t context_overhead_bytes;
  uint64_t memory_bytes; /* 0: the model's own */
  uint32_t group_count;
  struct {
    const char *model;
    uint32_t count;
  } groups[SIM_MAX_CARDS];
} node_plan;

#define SIMCTL_MOST_KERNELS 64

/* What `simctl set` changes; NULL or -1: stays as it is. */
typedef struct node_settings {
  int card; /* -1: all */
  const uint64_t *context_overhead_bytes;
  const uint64_t *time_slice_ns;
  int mps;
  int driver_memory;
  int foreign_ids;
  uint32_t kernel_count;
  struct {
    char name[112];
    uint64_t duration_ns;
  } kernels[SIMCTL_MOST_KERNELS];
} node_settings;

/* Each prints what is wrong to standard error and returns an exit status. */
int simctl_create(const node_plan *plan);
int simctl_list(const char *root, bool json);
int simctl_names(const char *root);
int simctl_set(const char *root, const node_settings *settings);

/* The position of the card that has that UUID, or a MIG device with it. */
int card_of_id(const char *root, const char *uuid, int *card);

/* NVIDIA's tools, as far as scripts use them. */
int nvidia_smi(const char *root, int argc, char **argv);
int mps_control(const char *root, int argc, char **argv);

/* Commands with arguments of their own; argv[0] is the command's name. */
int simctl_mig(const char *root, int argc, char **argv);
int simctl_fault(const char *root, int argc, char **argv);

/* A node that is being changed, and one card of it. */
typedef struct changer {
  sim_store store;
  sim_node node;
  sim_session session;
  const sim_card *card;
  uint32_t index; /* of the card in the state file */
} changer;

/* Opens a node for a change of a card. */
int changer_open(const char *root, int card, changer *on);

/* Reads a number up to a million. */
bool small_number(const char *text, long *value);

/* Makes a node's MIG capability files and, unless NULL, on each card the instances of `profiles`. */
int simctl_mig_prepare(const char *root, const char *profiles);

/* Print what MIG makes of a card: a JSON value, the members that tell a process's instance, lines for people. */
void mig_json(const sim_store *store, const sim_card *card, uint32_t index);
void mig_process_json(const sim_store *store, const sim_card *card, uint32_t index, uint32_t word);
void mig_text(const sim_store *store, const sim_card *card, uint32_t index);

/* Whether a MIG device of the card has that UUID. */
bool mig_has(const sim_store *store, const sim_card *card, uint32_t index, const char *uuid);

/* Prints `simctl: ...` and returns SIMCTL_FAILED. */
int simctl_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What to tell a person about a status of the state file below `root`. */
int simctl_fail_status(const char *root, sim_status status);

/* Joins and makes a path; fails if it is too long.  Both return 0 or an exit status. */
int path_join(char path[PATH_MAX], const char *root, const char *name);
int make_folders(const char *path);
int write_text(const char *root, const char *name, const char *text);

/* Copies the libraries that lie beside this program into the root, with their links, and the program itself. */
int install_driver(const char *root, const char *driver_version, uint32_t cuda_version);

/* A name that drivers before this CUDA version do not export; gen/exports.py makes the list, ordered by name. */
typedef struct export_since {
  const char *name;
  uint32_t cuda_version;
} export_since;

extern const export_since EXPORTS_SINCE[];
extern const size_t EXPORTS_SINCE_COUNT;

/* Makes a library export no more than a driver of that version does. */
int hide_exports(const char *path, uint32_t cuda_version);

/* Writes the card's folder of sysfs. */
int write_sysfs(const char *root, const sim_card *card);

#endif
