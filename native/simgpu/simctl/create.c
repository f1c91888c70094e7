/* simctl create: a driver root with its cards.  Run again with the same arguments it changes nothing but the
 * libraries, which it brings up to date; with other cards it refuses, since processes may be using those that are
 * there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"
#include "simctl.h"

/* Buses of the cards when none are named, as on common eight-way machines. */
static const uint32_t DEFAULT_BUSES[] = {0x17, 0x31, 0x4b, 0x65, 0x98, 0xb1, 0xca, 0xe3};
#define DEFAULT_BUS_COUNT (sizeof DEFAULT_BUSES / sizeof *DEFAULT_BUSES)

static int random_bytes(unsigned char *bytes, size_t size) {
  int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  bool bad = fd < 0 || read(fd, bytes, size) != (ssize_t)size;
  if (fd >= 0) close(fd);
  return bad ? simctl_fail("/dev/urandom: %s", strerror(errno)) : SIMCTL_OK;
}

static int make_identity(sim_card *card) {
  unsigned char b[20];
  int failed = random_bytes(b, sizeof b);
  if (failed) return failed;
  b[6] = (unsigned char)((b[6] & 0x0f) | 0x40); /* RFC 9562, version 4 */
  b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
  snprintf(card->uuid, sizeof card->uuid, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
           b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
  uint32_t number = ((uint32_t)b[16] << 16 | (uint32_t)b[17] << 8 | b[18]) % 10000000u;
  snprintf(card->serial, sizeof card->serial, "165%010u", number);
  return SIMCTL_OK;
}

/* Copies element `index` of a comma-separated list; false if there is none such or it is too long. */
static bool list_item(const char *list, uint32_t index, char *item, size_t size) {
  for (; index > 0; index--) {
    list = strchr(list, ',');
    if (list == NULL) return false;
    list++;
  }
  size_t length = strcspn(list, ",");
  if (length == 0 || length >= size) return false;
  memcpy(item, list, length);
  item[length] = '\0';
  return true;
}

static uint32_t list_length(const char *list) {
  uint32_t length = 1;
  for (; *list != '\0'; list++) length += *list == ',';
  return length;
}

static int parse_pci(const char *text, sim_card *card) {
  unsigned domain, bus, device, function;
  char end;
  if (sscanf(text, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &end) != 4 || domain > 0xffff || bus > 0xff ||
      device > 0x1f || function != 0)
    return simctl_fail("--pci %s: want an address such as 0000:17:00.0", text);
  card->pci_domain = domain;
  card->pci_bus = bus;
  card->pci_device = device;
  return SIMCTL_OK;
}

static int parse_uuid(const char *text, sim_card *card) {
  static const char PATTERN[] = "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  bool good = strlen(text) == sizeof PATTERN - 1;
  for (size_t i = 0; good && i < sizeof PATTERN - 1; i++)
    good = PATTERN[i] == 'x' ? strchr("0123456789abcdef", text[i]) != NULL : PATTERN[i] == text[i];
  if (!good) return simctl_fail("--uuid %s: want %s in lower-case hexadecimal digits", text, PATTERN);
  snprintf(card->uuid, sizeof card->uuid, "%s", text);
  return SIMCTL_OK;
}

static int place_card(const node_plan *plan, uint32_t index, uint32_t count, sim_card *card) {
  char item[64];
  card->minor_number = index;
  card->pci_domain = (uint32_t)(index / DEFAULT_BUS_COUNT);
  card->pci_bus = DEFAULT_BUSES[index % DEFAULT_BUS_COUNT];
  card->numa_node = count > 1 ? (int32_t)(index * 2 / count) : 0;
  int failed = make_identity(card);
  if (!failed && plan->pci != NULL)
    failed = list_item(plan->pci, index, item, sizeof item)
                 ? parse_pci(item, card)
                 : simctl_fail("--pci %s: want %u addresses", plan->pci, count);
  if (!failed && plan->uuid != NULL)
    failed = list_item(plan->uuid, index, item, sizeof item)
                 ? parse_uuid(item, card)
                 : simctl_fail("--uuid %s: want %u UUIDs", plan->uuid, count);
  if (!failed && plan->numa != NULL) {
    char *end = item;
    long node = list_item(plan->numa, index, item, sizeof item) ? strtol(item, &end, 10) : -2;
    if (end == item || *end != '\0' || node < -1 || node > 1023)
      return simctl_fail("--numa %s: want %u node numbers, -1 for none", plan->numa, count);
    card->numa_node = (int32_t)node;
  }
  return failed;
}

/* 12080 for 570: the CUDA version that came with a branch of the driver. */
static uint32_t cuda_version_of(const char *driver_version) {
  static const struct {
    int branch;
    uint32_t cuda;
  } BRANCHES[] = {{590, 13010}, {580, 13000}, {575, 12090}, {570, 12080}, {565, 12070}, {560, 12060}, {555, 12050},
                  {550, 12040}, {545, 12030}, {535, 12020}, {530, 12010}, {525, 12000}, {520, 11080}, {515, 11070},
                  {510, 11060}, {495, 11050}, {470, 11040}, {465, 11030}, {460, 11020}, {450, 11000}};
  int branch = atoi(driver_version);
  for (size_t i = 0; i < sizeof BRANCHES / sizeof *BRANCHES; i++)
    if (branch >= BRANCHES[i].branch) return BRANCHES[i].cuda;
  return 0;
}

static int check_driver_version(const node_plan *plan, sim_header *header) {
  size_t length = strlen(plan->driver_version);
  header->cuda_version = cuda_version_of(plan->driver_version);
  if (length == 0 || length >= sizeof header->driver_version ||
      plan->driver_version[strspn(plan->driver_version, "0123456789.")] != '\0' || header->cuda_version == 0)
    return simctl_fail("--driver-version %s: want one such as 570.00.01, from 450 on", plan->driver_version);
  memcpy(header->driver_version, plan->driver_version, length + 1);
  return SIMCTL_OK;
}

static int fill_state(const node_plan *plan, sim_state *state) {
  memcpy(state->header.magic, SIM_MAGIC, sizeof state->header.magic);
  state->header.version = SIM_STATE_VERSION;
  int failed = check_driver_version(plan, &state->header);
  uint32_t count = 0;
  for (uint32_t i = 0; i < plan->group_count; i++) count += plan->groups[i].count;
  if (!failed && (count == 0 || count > SIM_MAX_CARDS))
    failed = simctl_fail("%u cards: want between 1 and %u", count, SIM_MAX_CARDS);
  if (!failed && ((plan->pci != NULL && list_length(plan->pci) != count) ||
                  (plan->numa != NULL && list_length(plan->numa) != count) ||
                  (plan->uuid != NULL && list_length(plan->uuid) != count)))
    failed = simctl_fail("--pci, --numa and --uuid: want one item for each of the %u cards", count);
  for (uint32_t i = 0; !failed && i < plan->group_count; i++) {
    for (uint32_t j = 0; !failed && j < plan->groups[i].count; j++) {
      sim_card *card = &state->cards[state->header.card_count++];
      if (sim_model_fill(plan->groups[i].model, card) != 0)
        return simctl_fail("--model %s: unknown, want one of %s", plan->groups[i].model, sim_model_names());
      if (plan->memory_bytes != 0) card->memory_bytes = plan->memory_bytes;
      card->context_overhead_bytes = plan->context_overhead_bytes;
      failed = place_card(plan, state->header.card_count - 1, count, card);
    }
  }
  for (uint32_t i = 0; !failed && i < count; i++)
    for (uint32_t j = 0; !failed && j < i; j++) {
      const sim_card *a = &state->cards[i];
      const sim_card *b = &state->cards[j];
      if ((a->pci_domain == b->pci_domain && a->pci_bus == b->pci_bus && a->pci_device == b->pci_device) ||
          strcmp(a->uuid, b->uuid) == 0)
        failed = simctl_fail("two cards have one PCI address or one UUID");
    }
  return failed;
}

static int write_state(const char *root, const sim_state *state) {
  char path[PATH_MAX];
  char scratch[PATH_MAX];
  int failed = path_join(path, root, SIM_STATE_PATH);
  if (failed) return failed;
  if ((size_t)snprintf(scratch, sizeof scratch, "%s.%ld.tmp", path, (long)getpid()) >= sizeof scratch)
    return simctl_fail("%.60s...: path too long", path);
  int fd = open(scratch, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  const size_t head = offsetof(sim_state, slots);
  bool bad = fd < 0 || fchmod(fd, 0666) != 0 || ftruncate(fd, (off_t)SIM_STATE_SIZE) != 0 ||
             write(fd, state, head) != (ssize_t)head;
  if (fd >= 0 && close(fd) != 0) bad = true;
  /* link, not rename: of two that create at once, one wins and the other sees its node. */
  if (!bad && link(scratch, path) != 0 && errno != EEXIST) bad = true;
  if (bad) failed = simctl_fail("%s: %s", path, strerror(errno));
  unlink(scratch);
  return failed;
}

static int touch_device(const char *root, const char *name) {
  char path[PATH_MAX];
  int failed = path_join(path, root, name);
  if (failed) return failed;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0 || fchmod(fd, 0666) != 0) failed = simctl_fail("%s: %s", path, strerror(errno));
  if (fd >= 0) close(fd);
  return failed;
}

static const char *difference(const sim_state *wanted, const node_plan *plan, const sim_node *node) {
  if (strcmp(wanted->header.driver_version, node->driver_version) != 0) return "driver version";
  if (wanted->header.card_count != node->card_count) return "number of cards";
  for (uint32_t i = 0; i < node->card_count; i++) {
    const sim_card *there = &node->cards[i];
    const sim_card *here = &wanted->cards[node->index[i]];
    if (strcmp(here->model, there->model) != 0) return "models";
    if (here->memory_bytes != there->memory_bytes) return "memory";
    if (here->pci_domain != there->pci_domain || here->pci_bus != there->pci_bus ||
        here->pci_device != there->pci_device)
      return "PCI addresses";
    if (here->numa_node != there->numa_node) return "NUMA nodes";
    if (plan->uuid != NULL && strcmp(here->uuid, there->uuid) != 0) return "UUIDs";
  }
  return NULL;
}

static int create_in(const node_plan *plan, sim_state *state) {
  char folder[PATH_MAX];
  char name[64];
  sim_store store;
  sim_node node;
  int failed = fill_state(plan, state);
  if (!failed) failed = path_join(folder, plan->root, "dev");
  if (!failed) failed = make_folders(folder);
  if (failed) return failed;
  sim_status status = sim_store_open(&store, plan->root, false);
  bool fresh = status == SIM_ABSENT;
  if (fresh) {
    failed = write_state(plan->root, state);
    if (failed) return failed;
    status = sim_store_open(&store, plan->root, false);
  }
  if (status == SIM_OK) status = sim_store_node(&store, &node);
  if (status != SIM_OK) return simctl_fail_status(plan->root, status);
  const char *different = difference(state, plan, &node);
  if (different != NULL)
    return simctl_fail("%s: has a node with other %s; delete the folder to make a new one", plan->root, different);
  for (uint32_t i = 0; !failed && i < node.card_count; i++) {
    snprintf(name, sizeof name, "dev/nvidia%u", node.cards[i].minor_number);
    failed = touch_device(plan->root, name);
    if (!failed) failed = write_sysfs(plan->root, &node.cards[i]);
  }
  if (!failed) failed = touch_device(plan->root, "dev/nvidia-uvm");
  if (!failed) failed = touch_device(plan->root, "dev/nvidia-uvm-tools");
  if (!failed) failed = install_driver(plan->root, node.driver_version, node.cuda_version);
  /* A node that was there keeps the instances that it has. */
  if (!failed) failed = simctl_mig_prepare(plan->root, fresh ? plan->mig : NULL);
  return failed;
}

int simctl_create(const node_plan *plan) {
  sim_state *state = calloc(1, sizeof *state);
  if (state == NULL) return simctl_fail("out of memory");
  int failed = create_in(plan, state);
  free(state);
  return failed;
}
