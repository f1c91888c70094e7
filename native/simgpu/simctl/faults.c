/* simctl inject, lose, restore, unload and reload: faults on command. */
#include "faults.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simctl.h"

#define SINGLE_BIT 1u /* nvmlEventType* */
#define DOUBLE_BIT 2u

enum {
  OPT_ROOT,
  OPT_CARD,
  OPT_XID,
  OPT_PID,
  OPT_ECC,
  OPT_COUNT,
  OPT_REMAPPED,
  OPT_RETIRED,
  OPT_TEMPERATURE,
  OPT_CLOCK,
  OPT_POWER,
  OPT_THROTTLE,
  OPT_GONE,
  OPT_VERSION,
  OPT_NONE,
  OPT_END
};

static const struct option OPTIONS[] = {
    {"root", required_argument, NULL, OPT_ROOT},
    {"card", required_argument, NULL, OPT_CARD},
    {"xid", required_argument, NULL, OPT_XID},
    {"pid", required_argument, NULL, OPT_PID},
    {"ecc", required_argument, NULL, OPT_ECC},
    {"count", required_argument, NULL, OPT_COUNT},
    {"remapped", required_argument, NULL, OPT_REMAPPED},
    {"retired", required_argument, NULL, OPT_RETIRED},
    {"temperature", required_argument, NULL, OPT_TEMPERATURE},
    {"clock", required_argument, NULL, OPT_CLOCK},
    {"power", required_argument, NULL, OPT_POWER},
    {"throttle", required_argument, NULL, OPT_THROTTLE},
    {"gone", no_argument, NULL, OPT_GONE},
    {"driver-version", required_argument, NULL, OPT_VERSION},
    {"none", no_argument, NULL, OPT_NONE},
    {NULL, 0, NULL, 0},
};

typedef struct wishes {
  const char *root;
  const char *text[OPT_END];
  long number[OPT_END];
  bool given[OPT_END];
} wishes;

/* Names of nvmlClocksEventReason*. */
static const struct {
  const char *name;
  uint64_t reason;
} THROTTLES[] = {{"power-cap", 0x4},   {"hw-slowdown", 0x8},  {"sw-thermal", 0x20},
                 {"hw-thermal", 0x40}, {"power-brake", 0x80}, {"none", 0}};

static bool is_number(int option) {
  return option == OPT_CARD || option == OPT_XID || option == OPT_PID || option == OPT_COUNT ||
         option == OPT_TEMPERATURE || option == OPT_CLOCK || option == OPT_POWER;
}

static bool parse(int argc, char **argv, wishes *into) {
  for (int option; (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
    if (option < 0 || option >= OPT_END) return false;
    into->given[option] = true;
    into->text[option] = optarg;
    if (option == OPT_ROOT) into->root = optarg;
    if (is_number(option) && !small_number(optarg, &into->number[option])) return false;
  }
  return optind == argc;
}

static bool throttles(const char *names, uint64_t *reasons) {
  *reasons = 0;
  for (;;) {
    size_t length = strcspn(names, ",");
    bool known = false;
    for (size_t i = 0; i < sizeof THROTTLES / sizeof *THROTTLES; i++)
      if (strlen(THROTTLES[i].name) == length && strncmp(THROTTLES[i].name, names, length) == 0) {
        known = true;
        *reasons |= THROTTLES[i].reason;
      }
    if (!known) return false;
    if (names[length] == '\0') return true;
    names += length + 1;
  }
}

/* Which of two words an option says: 0 or 1; -1 for neither. */
static int either(const char *text, const char *first, const char *second) {
  return strcmp(text, first) == 0 ? 0 : strcmp(text, second) == 0 ? 1 : -1;
}

static int inject_memory(changer *on, sim_faults *faults, const wishes *given) {
  const uint32_t count = given->given[OPT_COUNT] ? (uint32_t)given->number[OPT_COUNT] : 1;
  if (given->given[OPT_ECC]) {
    int kind = either(given->text[OPT_ECC], "single", "double");
    if (kind < 0) return SIMCTL_USAGE;
    faults->ecc_volatile[kind] += count;
    faults->ecc_aggregate[kind] += count;
    sim_event_post(&on->session, on->index, kind == 0 ? SINGLE_BIT : DOUBLE_BIT, 0, 0);
  }
  if (given->given[OPT_REMAPPED]) {
    const char *what = given->text[OPT_REMAPPED];
    int kind = either(what, "correctable", "uncorrectable");
    if (kind >= 0)
      faults->remapped[kind] += count;
    else if (either(what, "pending", "failed") >= 0)
      *(either(what, "pending", "failed") == 0 ? &faults->remap_pending : &faults->remap_failed) = 1;
    else
      return SIMCTL_USAGE;
  }
  if (given->given[OPT_RETIRED]) {
    int kind = either(given->text[OPT_RETIRED], "single", "double");
    if (kind < 0) return SIMCTL_USAGE;
    faults->retired[kind] =
        faults->retired[kind] + count < SIM_RETIRED_PAGES ? faults->retired[kind] + count : SIM_RETIRED_PAGES;
  }
  return SIMCTL_OK;
}

static int inject(changer *on, const wishes *given) {
  sim_faults *faults = &on->session.store.map->conditions[on->index].faults;
  uint64_t reasons = 0;
  if (given->given[OPT_THROTTLE] && !throttles(given->text[OPT_THROTTLE], &reasons)) return SIMCTL_USAGE;
  if (given->given[OPT_NONE]) *faults = (sim_faults){.presence = faults->presence};
  int failed = inject_memory(on, faults, given);
  if (failed) return failed;
  if (given->given[OPT_TEMPERATURE]) faults->temperature_c = (uint32_t)given->number[OPT_TEMPERATURE];
  if (given->given[OPT_CLOCK]) faults->sm_clock_mhz = (uint32_t)given->number[OPT_CLOCK];
  if (given->given[OPT_POWER]) faults->power_mw = (uint32_t)given->number[OPT_POWER] * 1000u;
  if (given->given[OPT_THROTTLE]) faults->throttle = reasons;
  const pid_t pid = given->given[OPT_PID] ? (pid_t)given->number[OPT_PID] : 0;
  if (given->given[OPT_XID] && sim_fault_xid(&on->session, on->index, (uint32_t)given->number[OPT_XID], pid) == 0 &&
      pid != 0)
    failed = simctl_fail("--pid %d: no process of that id uses the card", (int)pid);
  if (given->given[OPT_XID] && given->number[OPT_XID] == 79 && pid == 0)
    __atomic_store_n(&faults->presence, (uint32_t)SIM_LOST, __ATOMIC_RELEASE);
  return failed;
}

static bool any_process(const changer *on) {
  for (uint32_t i = 0; i < on->node.card_count; i++)
    if (sim_instance_busy(&on->session, on->node.index[i], SIM_ALL, SIM_ALL)) return true;
  return false;
}

/* A module of another version than the libraries: both say so until it is the libraries' own again. */
static int reload(changer *on, const char *version) {
  sim_state *state = on->session.store.map;
  sim_driver_state *driver = &state->node.driver;
  if (driver->library_version[0] == '\0')
    memcpy(driver->library_version, on->node.driver_version, sizeof driver->library_version);
  if (version == NULL) version = driver->library_version;
  if (strlen(version) >= sizeof state->header.driver_version) return SIMCTL_USAGE;
  snprintf(state->header.driver_version, sizeof state->header.driver_version, "%s", version);
  __atomic_store_n(&driver->unloaded, 0u, __ATOMIC_RELEASE);
  return SIMCTL_OK;
}

static int run(changer *on, const char *command, const wishes *given) {
  if (strcmp(command, "inject") == 0) return inject(on, given);
  if (strcmp(command, "lose") == 0)
    sim_fault_presence(&on->session, on->index, given->given[OPT_GONE] ? SIM_GONE : SIM_LOST);
  else if (strcmp(command, "restore") == 0)
    sim_fault_presence(&on->session, on->index, SIM_PRESENT);
  else if (any_process(on))
    return simctl_fail("%s: processes use the driver", command);
  else if (strcmp(command, "reload") == 0)
    return reload(on, given->text[OPT_VERSION]);
  else
    __atomic_store_n(&on->session.store.map->node.driver.unloaded, 1u, __ATOMIC_RELEASE);
  return SIMCTL_OK;
}

/* Which options each command takes. */
static bool allowed(const char *command, const wishes *given) {
  for (int option = OPT_CARD; option < OPT_END; option++) {
    bool good = strcmp(command, "inject") == 0   ? option != OPT_GONE && option != OPT_VERSION
                : strcmp(command, "lose") == 0   ? option == OPT_CARD || option == OPT_GONE
                : strcmp(command, "reload") == 0 ? option == OPT_VERSION
                                                 : option == OPT_CARD;
    if (given->given[option] && !good) return false;
  }
  return true;
}

int simctl_fault(const char *root, int argc, char **argv) {
  static changer on;
  static wishes given;
  given.root = root;
  if (!parse(argc, argv, &given) || !allowed(argv[0], &given)) return SIMCTL_USAGE;
  int failed = changer_open(given.root, (int)given.number[OPT_CARD], &on);
  if (failed) return failed;
  sim_status status = sim_session_enter(&on.session);
  if (status != SIM_OK) return simctl_fail_status(given.root, status);
  failed = run(&on, argv[0], &given);
  sim_session_leave(&on.session);
  sim_session_end(&on.session);
  return failed;
}
