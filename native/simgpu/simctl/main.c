/* The command line of simctl. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simctl.h"

#define DEFAULT_DRIVER_VERSION "580.65.06"

static const char USAGE[] =
    "usage: simctl create --root DIR --model MODEL [--count N] [--model MODEL [--count N]]... [--driver-version V]\n"
    "                     [--pci ADDRESS,...] [--numa NODE,...] [--uuid UUID,...] [--memory SIZE] [--context-overhead "
    "SIZE]\n"
    "       simctl list   [--root DIR] [--json]\n"
    "       simctl set    [--root DIR] [--card INDEX] --context-overhead SIZE\n"
    "MODEL is one of T4 L4 A10 A100 H100 H200 B200; SIZE is bytes, or has a suffix K, M, G (powers of 1024).\n"
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
  OPT_CARD
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
    {NULL, 0, NULL, 0},
};

typedef struct arguments {
  node_plan plan;
  uint64_t seen; /* bit OPT_x: the option was given */
  int card;
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
      into->card = (int)number;
      break;
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

static int run(const char *command, const arguments *given) {
  const uint64_t create_options = BIT(OPT_ROOT) | BIT(OPT_MODEL) | BIT(OPT_COUNT) | BIT(OPT_DRIVER) | BIT(OPT_PCI) |
                                  BIT(OPT_NUMA) | BIT(OPT_UUID) | BIT(OPT_MEMORY) | BIT(OPT_OVERHEAD);
  if (strcmp(command, "create") == 0 && allowed(given, create_options) && (given->seen & BIT(OPT_ROOT)) != 0 &&
      given->plan.group_count > 0)
    return simctl_create(&given->plan);
  if (strcmp(command, "list") == 0 && allowed(given, BIT(OPT_ROOT) | BIT(OPT_JSON)))
    return simctl_list(given->plan.root, (given->seen & BIT(OPT_JSON)) != 0);
  if (strcmp(command, "set") == 0 && allowed(given, BIT(OPT_ROOT) | BIT(OPT_CARD) | BIT(OPT_OVERHEAD)) &&
      (given->seen & BIT(OPT_OVERHEAD)) != 0)
    return simctl_set(given->plan.root, given->card, given->plan.context_overhead_bytes);
  return usage_error();
}

int main(int argc, char **argv) {
  static arguments given;
  given.plan.root = sim_root();
  given.plan.driver_version = DEFAULT_DRIVER_VERSION;
  given.card = -1;
  /* Under this name, what scripts ask of NVIDIA's tool. */
  const char *name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
  if (strcmp(name, "nvidia-smi") == 0) {
    if (argc == 1) return simctl_list(given.plan.root, false);
    return argc == 2 && strcmp(argv[1], "-L") == 0 ? simctl_names(given.plan.root) : usage_error();
  }
  if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(USAGE, stdout);
    return SIMCTL_OK;
  }
  if (argc < 2 || argv[1][0] == '-') return usage_error();
  const char *command = argv[1];
  argv[1] = argv[0];
  for (int option; (option = getopt_long(argc - 1, argv + 1, "", OPTIONS, NULL)) != -1;)
    if (!parse_option(&given, option, optarg)) return SIMCTL_USAGE;
  if (optind != argc - 1) return usage_error();
  return run(command, &given);
}
