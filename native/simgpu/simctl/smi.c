/* What scripts and drivers ask of nvidia-smi: the list of cards, their turns, their compute mode. */
#include <stdio.h>
#include <string.h>

#include "simctl.h"

/* By NVIDIA's numbers: Default, Short, Medium, Long.  NVIDIA does not say how long they are; these are ours. */
static const uint64_t SLICES_NS[] = {0, 1000000, 4000000, 16000000};

static int set_time_slice(const char *root, const char *id, const char *value) {
  long number = -1;
  int card = 0;
  if (!small_number(value, &number) || number >= (long)(sizeof SLICES_NS / sizeof *SLICES_NS))
    return simctl_fail("--set-timeslice %s: from 0 to 3", value);
  int failed = card_of_id(root, id, &card);
  if (failed) return failed;
  const node_settings settings = {
      .card = card, .time_slice_ns = &SLICES_NS[number], .mps = -1, .driver_memory = -1, .foreign_ids = -1};
  failed = simctl_set(root, &settings);
  if (!failed) printf("Timeslice set to %s for GPU %s.\n", value, id);
  return failed;
}

/* Cards here are always in the mode DEFAULT; asking for it changes nothing. */
static int set_compute_mode(const char *root, const char *id, const char *mode) {
  int card = 0;
  int failed = card_of_id(root, id, &card);
  if (failed) return failed;
  if (strcmp(mode, "DEFAULT") != 0 && strcmp(mode, "0") != 0)
    return simctl_fail("-c %s: simulated cards know the compute mode DEFAULT alone", mode);
  printf("Compute mode is already set to DEFAULT for GPU %s.\n", id);
  return SIMCTL_OK;
}

int nvidia_smi(const char *root, int argc, char **argv) {
  if (argc == 1) return simctl_list(root, false);
  if (argc == 2 && strcmp(argv[1], "-L") == 0) return simctl_names(root);
  if (argc == 6 && strcmp(argv[1], "compute-policy") == 0 && strcmp(argv[2], "-i") == 0 &&
      strcmp(argv[4], "--set-timeslice") == 0)
    return set_time_slice(root, argv[3], argv[5]);
  if (argc == 5 && strcmp(argv[1], "-i") == 0 && strcmp(argv[3], "-c") == 0)
    return set_compute_mode(root, argv[2], argv[4]);
  return SIMCTL_USAGE;
}
