/* The command line of simctl. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "simctl.h"

#define DEFAULT_DRIVER_VERSION "580.65.06"
#define MOST_TIME_NS UINT64_C(86400000000000)

static const char USAGE[] =
    "usage: simctl create --root DIR --model MODEL [--count N] [--model MODEL [--count N]]... [--driver-version V]\n"
    "                     [--pci ADDRESS,...] [--numa NODE,...] [--uuid UUID,...] [--memory SIZE] [--context-overhead "
    "SIZE]\n"
    "                     [--mig PROFILE,...]\n"
    "       simctl list   [--root DIR] [--json]\n"
    "       simctl set    [--root DIR] [--card INDEX] [--context-overhead SIZE] [--time-slice TIME] [--mps on|off]\n"
    "                     [--driver-memory on|off] [--foreign-ids on|off] [--kernel NAME=TIME]...\n"
    "       simctl mig    enable|disable|reset [--root DIR] [--card INDEX]\n"
    "       simctl mig    create  [--root DIR] [--card INDEX] --profile NAME,... [--start SLICE]\n"
    "       simctl mig    destroy [--root DIR] [--card INDEX] [--instance ID]\n"
    "       simctl inject [--root DIR] [--card INDEX] [--xid NUMBER [--pid PID]] [--ecc single|double] [--count N]\n"
    "                     [--remapped correctable|uncorrectable|pending|failed] [--retired single|double]\n"
    "                     [--temperature C] [--clock MHZ] [--power WATT] [--throttle REASON,...] [--none]\n"
    "       simctl lose   [--root DIR] [--card INDEX] [--gone]\n"
    "       simctl restore [--root DIR] [--card INDEX]\n"
    "       simctl unload [--root DIR]\n"
    "       simctl reload [--root DIR] [--driver-version V]\n"
    "MODEL is one of T4 L4 A10 A30 A100-40 A100 H100 H200 B200; SIZE is bytes, or has a suffix K, M, G (powers of "
    "1024);\n"
    "TIME is a whole number with a suffix ns, us, ms or s.\n"
    "Without --root: $SIMGPU_ROOT, or /.\n";

enum {
  OPT_ROOT,
  OPT_MODEL,
  OPT_COUNT,
  OPT_DRIVER,
  OPT_PCI,
  OPT_NUMA,
  OPT_UUID,
  OPT_MEMORY,
  OPT_OVERHEAD,
  OPT_JSON,
  OPT_CARD,
  OPT_TIME_SLICE,
  OPT_MPS,
  OPT_DRIVER_MEMORY,
  OPT_FOREIGN_IDS,
  OPT_KERNEL,
  OPT_MIG
};

static const struct option OPTIONS[] = {
    {"root", required_argument, NULL, OPT_ROOT},
    {"model", required_argument, NULL, OPT_MODEL},
    {"count", required_argument, NULL, OPT_COUNT},
    {"driver-version", required_argument, NULL, OPT_DRIVER},
    {"pci", required_argument, NULL, OPT_PCI},
    {"numa", required_argument, NULL, OPT_NUMA},
    {"uuid", required_argument, NULL, OPT_UUID},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"context-overhead", required_argument, NULL, OPT_OVERHEAD},
    {"json", no_argument, NULL, OPT_JSON},
    {"card", required_argument, NULL, OPT_CARD},
    {"time-slice", required_argument, NULL, OPT_TIME_SLICE},
    {"mps", required_argument, NULL, OPT_MPS},
    {"driver-memory", required_argument, NULL, OPT_DRIVER_MEMORY},
    {"foreign-ids", required_argument, NULL, OPT_FOREIGN_IDS},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"mig", required_argument, NULL, OPT_MIG},
    {NULL, 0, NULL, 0},
};

typedef struct arguments {
  node_plan plan;
  uint64_t seen; /* bit OPT_x: the option was given */
  uint64_t time_slice_ns;
  node_settings settings;
} arguments;

static bool parse_number(const char *text, uint64_t most, uint64_t *value) {
  char *end;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || errno != 0) return false;
  unsigned shift = 0;
  if (*end != '\0' && end[1] == '\0') shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  if ((*end != '\0' && shift == 0) || number > most >> shift) return false;
  *value = (uint64_t)number << shift;
  return true;
}

static bool parse_time(const char *text, uint64_t most_ns, uint64_t *ns) {
  static const struct {
    const char *suffix;
    uint64_t ns;
  } UNITS[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
  char *end;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || errno != 0) return false;
  for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
    if (strcmp(end, UNITS[i].suffix) != 0) continue;
    *ns = (uint64_t)number * UNITS[i].ns;
    return number <= most_ns / UNITS[i].ns;
  }
  return false;
}

/* NAME=TIME */
static bool parse_kernel(node_settings *into, const char *value) {
  const char *sign = strrchr(value, '=');
  if (sign == NULL || sign == value || into->kernel_count == SIMCTL_MOST_KERNELS) return false;
  size_t length = (size_t)(sign - value);
  if (length >= sizeof into->kernels[0].name) return false;
  memcpy(into->kernels[into->kernel_count].name, value, length);
  return parse_time(sign + 1, MOST_TIME_NS, &into->kernels[into->kernel_count++].duration_ns);
}

static bool parse_switch(const char *value, int *into) {
  *into = strcmp(value, "on") == 0;
  return *into || strcmp(value, "off") == 0;
}

static bool parse_model(arguments *into, const char *value) {
  node_plan *plan = &into->plan;
  if (plan->group_count == SIM_MAX_CARDS) return false;
  plan->groups[plan->group_count].count = 1;
  plan->groups[plan->group_count++].model = value;
  return true;
}

static bool parse_option(arguments *into, int option, const char *value) {
  node_plan *plan = &into->plan;
  uint64_t number = 0;
  bool good = true;
  switch (option) {
    case OPT_ROOT: plan->root = value; break;
    case OPT_MODEL: good = parse_model(into, value); break;
    case OPT_COUNT:
      good = plan->group_count > 0 && parse_number(value, SIM_MAX_CARDS, &number);
      if (good) plan->groups[plan->group_count - 1].count = (uint32_t)number;
      break;
    case OPT_DRIVER: plan->driver_version = value; break;
    case OPT_PCI: plan->pci = value; break;
    case OPT_NUMA: plan->numa = value; break;
    case OPT_UUID: plan->uuid = value; break;
    case OPT_MEMORY:
      good = parse_number(value, UINT64_C(1) << 50, &plan->memory_bytes) && plan->memory_bytes > 0;
      break;
    case OPT_OVERHEAD: good = parse_number(value, UINT64_C(1) << 50, &plan->context_overhead_bytes); break;
    case OPT_CARD:
      good = parse_number(value, SIM_MAX_CARDS, &number);
      into->settings.card = (int)number;
      break;
    case OPT_TIME_SLICE:
      good = parse_time(value, MOST_TIME_NS, &into->time_slice_ns) && into->time_slice_ns >= SIM_LEAST_TIME_SLICE_NS;
      break;
    case OPT_DRIVER_MEMORY: good = parse_switch(value, &into->settings.driver_memory); break;
    case OPT_FOREIGN_IDS: good = parse_switch(value, &into->settings.foreign_ids); break;
    case OPT_MPS: good = parse_switch(value, &into->settings.mps); break;
    case OPT_KERNEL: good = parse_kernel(&into->settings, value); break;
    case OPT_MIG: plan->mig = value; break;
    case OPT_JSON: break;
    default: return false; /* getopt has said what is wrong */
  }
  if (!good) simctl_fail("%s: not a value of that option", value);
  into->seen |= UINT64_C(1) << option;
  return good;
}

static int usage_error(void) {
  fputs(USAGE, stderr);
  return SIMCTL_USAGE;
}

/* Which options each command takes. */
static bool allowed(const arguments *given, uint64_t options) { return (given->seen & ~options) == 0; }

#define BIT(option) (UINT64_C(1) << (option))

static int set(const arguments *given) {
  node_settings settings = given->settings;
  if ((given->seen & BIT(OPT_OVERHEAD)) != 0) settings.context_overhead_bytes = &given->plan.context_overhead_bytes;
  if ((given->seen & BIT(OPT_TIME_SLICE)) != 0) settings.time_slice_ns = &given->time_slice_ns;
  return simctl_set(given->plan.root, &settings);
}

static int run(const char *command, const arguments *given) {
  const uint64_t create_options = BIT(OPT_ROOT) | BIT(OPT_MODEL) | BIT(OPT_COUNT) | BIT(OPT_DRIVER) | BIT(OPT_PCI) |
                                  BIT(OPT_NUMA) | BIT(OPT_UUID) | BIT(OPT_MEMORY) | BIT(OPT_OVERHEAD) | BIT(OPT_MIG);
  if (strcmp(command, "create") == 0 && allowed(given, create_options) && (given->seen & BIT(OPT_ROOT)) != 0 &&
      given->plan.group_count > 0)
    return simctl_create(&given->plan);
  if (strcmp(command, "list") == 0 && allowed(given, BIT(OPT_ROOT) | BIT(OPT_JSON)))
    return simctl_list(given->plan.root, (given->seen & BIT(OPT_JSON)) != 0);
  const uint64_t settings = BIT(OPT_OVERHEAD) | BIT(OPT_TIME_SLICE) | BIT(OPT_MPS) | BIT(OPT_KERNEL) |
                            BIT(OPT_DRIVER_MEMORY) | BIT(OPT_FOREIGN_IDS);
  if (strcmp(command, "set") == 0 && allowed(given, BIT(OPT_ROOT) | BIT(OPT_CARD) | settings) &&
      (given->seen & settings) != 0)
    return set(given);
  return usage_error();
}

/* Those that read their arguments themselves. */
static const struct {
  const char *name;
  int (*run)(const char *root, int argc, char **argv);
} COMMANDS[] = {
    {"mig", simctl_mig},       {"inject", simctl_fault}, {"lose", simctl_fault},
    {"restore", simctl_fault}, {"unload", simctl_fault}, {"reload", simctl_fault},
};

int main(int argc, char **argv) {
  static arguments given;
  given.plan.root = sim_root();
  given.plan.driver_version = DEFAULT_DRIVER_VERSION;
  given.settings.card = -1;
  given.settings.mps = -1;
  given.settings.driver_memory = -1;
  given.settings.foreign_ids = -1;
  /* Under these names, what scripts ask of NVIDIA's tools. */
  const char *name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
  if (strcmp(name, "nvidia-smi") == 0) {
    int status = nvidia_smi(given.plan.root, argc, argv);
    return status == SIMCTL_USAGE ? usage_error() : status;
  }
  if (strcmp(name, "nvidia-cuda-mps-control") == 0) return mps_control(given.plan.root, argc, argv);
  if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(USAGE, stdout);
    return SIMCTL_OK;
  }
  if (argc < 2 || argv[1][0] == '-') return usage_error();
  const char *command = argv[1];
  for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
    if (strcmp(command, COMMANDS[i].name) != 0) continue;
    int status = COMMANDS[i].run(given.plan.root, argc - 1, argv + 1);
    return status == SIMCTL_USAGE ? usage_error() : status;
  }
  argv[1] = argv[0];
  for (int option; (option = getopt_long(argc - 1, argv + 1, "", OPTIONS, NULL)) != -1;)
    if (!parse_option(&given, option, optarg)) return SIMCTL_USAGE;
  if (optind != argc - 1) return usage_error();
  return run(command, &given);
}
