/* simctl mig: what `nvidia-smi mig` does, for scripts and tests. */
#include "mig.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capability.h"
#include "simctl.h"

static int fail_mig(const char *what, sim_mig_result result) {
  switch (result) {
    case SIM_MIG_DONE: return SIMCTL_OK;
    case SIM_MIG_IN_USE: return simctl_fail("%s: in use by processes or compute instances", what);
    case SIM_MIG_NO_ROOM: return simctl_fail("%s: no free placement", what);
    case SIM_MIG_NO_SUCH: return simctl_fail("%s: no such profile, placement or instance", what);
    case SIM_MIG_NOT_SUPPORTED: return simctl_fail("%s: the card has no MIG, or it is not enabled", what);
    default: return simctl_fail("%s: the state file is damaged", what);
  }
}

int changer_open(const char *root, int card, changer *on) {
  sim_status status = sim_store_open(&on->store, root, true);
  if (status == SIM_OK) status = sim_store_node(&on->store, &on->node);
  if (status == SIM_OK) status = sim_session_begin(&on->session, &on->store);
  if (status != SIM_OK) return simctl_fail_status(root, status);
  if (card < 0 || card >= (int)on->node.card_count)
    return simctl_fail("--card %d: the node has %u cards", card, on->node.card_count);
  on->card = &on->node.cards[card];
  on->index = on->node.index[card];
  return SIMCTL_OK;
}

static int set_mode(changer *on, bool enable) {
  bool activated;
  sim_mig_result result = sim_mig_set_mode(&on->session, on->card, on->index, enable, &activated);
  if (result == SIM_MIG_DONE && !activated) result = SIM_MIG_IN_USE;
  return fail_mig(enable ? "enable" : "disable", result);
}

/* Makes a GPU instance and a compute instance that is all of it. */
static int create_one(changer *on, const char *name, uint32_t start) {
  uint32_t place = 0;
  uint32_t serial = 0;
  uint32_t id;
  const sim_geometry *geometry = sim_geometry_of(on->card);
  const sim_profile *profile = NULL;
  for (uint32_t i = 0; geometry != NULL && i < geometry->profile_count; i++)
    if (strcmp(geometry->profiles[i].name, name) == 0) profile = &geometry->profiles[i];
  if (profile == NULL) return fail_mig(name, SIM_MIG_NO_SUCH);
  sim_mig_result result = sim_mig_create(&on->session, on->card, on->index, profile->id, start, &place, &serial);
  for (uint32_t number = 0; result == SIM_MIG_DONE && number < SIM_MAX_COMPUTE_INSTANCES; number++) {
    sim_compute_profile compute;
    if (sim_compute_profile_find(geometry, profile, number, &compute) && compute.slices == profile->slices)
      result = sim_compute_create(&on->session, on->card, on->index, place, serial, number, SIM_ANYWHERE, &id);
  }
  return fail_mig(name, result);
}

static int create_all(changer *on, const char *profiles, uint32_t start) {
  int failed = SIMCTL_OK;
  while (!failed) {
    char name[32];
    size_t length = strcspn(profiles, ",");
    snprintf(name, sizeof name, "%.*s", (int)length, profiles);
    failed = create_one(on, name, start);
    if (profiles[length] == '\0') break;
    profiles += length + 1;
  }
  return failed;
}

/* Destroys the GPU instance of that id, or all, with their compute instances. */
static int destroy(changer *on, long id) {
  sim_condition now;
  sim_mig_result result = SIM_MIG_DONE;
  bool found = id < 0;
  if (sim_condition_read(&on->store, on->card, on->index, &now) != SIM_OK) return fail_mig("destroy", SIM_MIG_BROKEN);
  for (uint32_t i = 0; result == SIM_MIG_DONE && i < SIM_MAX_GPU_INSTANCES; i++) {
    const sim_gpu_instance *instance = &now.mig.instances[i];
    if (instance->serial == 0 ||
        (id >= 0 && sim_instance_id(sim_geometry_of(on->card), instance->start, instance->size) != (uint32_t)id))
      continue;
    found = true;
    for (uint32_t j = 0; result == SIM_MIG_DONE && j < SIM_MAX_COMPUTE_INSTANCES; j++)
      if (instance->compute[j].serial != 0)
        result = sim_compute_destroy(&on->session, on->card, on->index, i, j, instance->compute[j].serial);
    if (result == SIM_MIG_DONE) result = sim_mig_destroy(&on->session, on->card, on->index, i, instance->serial);
  }
  return fail_mig("destroy", found ? result : SIM_MIG_NO_SUCH);
}

int simctl_mig_prepare(const char *root, const char *profiles) {
  sim_store store;
  sim_node node;
  int failed = SIMCTL_OK;
  sim_status status = sim_store_open(&store, root, true);
  if (status == SIM_OK) status = sim_store_node(&store, &node);
  if (status != SIM_OK) return simctl_fail_status(root, status);
  bool capable = false;
  for (uint32_t i = 0; i < node.card_count; i++) capable |= sim_geometry_of(&node.cards[i]) != NULL;
  if (capable) sim_capability_init(&store);
  for (uint32_t i = 0; !failed && profiles != NULL && i < node.card_count; i++) {
    static changer on;
    failed = changer_open(root, (int)i, &on);
    if (!failed) failed = set_mode(&on, true);
    if (!failed) failed = create_all(&on, profiles, SIM_ANYWHERE);
    if (on.session.lock_word != 0) sim_session_end(&on.session);
  }
  return failed;
}

enum { OPT_ROOT, OPT_CARD, OPT_PROFILE, OPT_START, OPT_INSTANCE };

static const struct option OPTIONS[] = {
    {"root", required_argument, NULL, OPT_ROOT},         {"card", required_argument, NULL, OPT_CARD},
    {"profile", required_argument, NULL, OPT_PROFILE},   {"start", required_argument, NULL, OPT_START},
    {"instance", required_argument, NULL, OPT_INSTANCE}, {NULL, 0, NULL, 0},
};

bool small_number(const char *text, long *value) {
  char *end;
  *value = strtol(text, &end, 10);
  return *text >= '0' && *text <= '9' && *end == '\0' && *value <= 1000000;
}

int simctl_mig(const char *root, int argc, char **argv) {
  static changer on;
  long card = 0;
  long start = -1;
  long instance = -1;
  const char *profiles = NULL;
  bool good = argc > 1;
  for (int option; good && (option = getopt_long(argc - 1, argv + 1, "", OPTIONS, NULL)) != -1;) {
    switch (option) {
      case OPT_ROOT: root = optarg; break;
      case OPT_CARD: good = small_number(optarg, &card); break;
      case OPT_PROFILE: profiles = optarg; break;
      case OPT_START: good = small_number(optarg, &start); break;
      case OPT_INSTANCE: good = small_number(optarg, &instance); break;
      default: good = false;
    }
  }
  if (!good || optind != argc - 1) return SIMCTL_USAGE;
  int failed = changer_open(root, (int)card, &on);
  if (failed) return failed;
  const char *verb = argv[1];
  if (strcmp(verb, "enable") == 0 || strcmp(verb, "disable") == 0)
    failed = set_mode(&on, verb[0] == 'e');
  else if (strcmp(verb, "create") == 0 && profiles != NULL)
    failed = create_all(&on, profiles, start >= 0 ? (uint32_t)start : SIM_ANYWHERE);
  else if (strcmp(verb, "destroy") == 0)
    failed = destroy(&on, instance);
  else if (strcmp(verb, "reset") == 0)
    failed = fail_mig("reset", sim_mig_reset(&on.session, on.card, on.index));
  else
    failed = SIMCTL_USAGE;
  sim_session_end(&on.session);
  return failed;
}
