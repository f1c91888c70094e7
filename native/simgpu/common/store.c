#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bounds of plausibility, so that no product of two fields of a damaged file overflows. */
#define MOST_MEMORY_BYTES (UINT64_C(1) << 50)
#define MOST_SMALL_NUMBER 100000u

const char *sim_root(void) {
  const char *root = getenv("SIMGPU_ROOT");
  return root != NULL && *root != '\0' ? root : "/";
}

sim_status sim_store_open(sim_store *store, const char *root, bool writable) {
  char path[PATH_MAX];
  struct stat status;
  store->fd = -1;
  store->map = NULL;
  if ((size_t)snprintf(store->root, sizeof store->root, "%s", root) >= sizeof store->root) return SIM_ABSENT;
  if ((size_t)snprintf(path, sizeof path, "%s/" SIM_STATE_PATH, root) >= sizeof path) return SIM_ABSENT;
  int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return errno == EACCES || errno == EPERM || errno == EROFS ? SIM_DENIED : SIM_ABSENT;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || (uint64_t)status.st_size < SIM_STATE_SIZE) {
    close(fd);
    return SIM_INVALID;
  }
  if (writable) {
    void *map = mmap(NULL, SIM_STATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
      close(fd);
      return SIM_SYSTEM;
    }
    store->map = map;
  }
  store->fd = fd;
  return SIM_OK;
}

static void end_strings(sim_card *card) {
  card->name[sizeof card->name - 1] = '\0';
  card->model[sizeof card->model - 1] = '\0';
  card->uuid[sizeof card->uuid - 1] = '\0';
  card->serial[sizeof card->serial - 1] = '\0';
  card->vbios[sizeof card->vbios - 1] = '\0';
  card->part_number[sizeof card->part_number - 1] = '\0';
}

static bool card_plausible(const sim_card *card) {
  const uint32_t small[] = {card->minor_number, card->sm_count,         card->cores_per_sm,    card->threads_per_sm,
                            card->sm_clock_mhz, card->memory_clock_mhz, card->memory_bus_bits, card->pcie_generation};
  for (size_t i = 0; i < sizeof small / sizeof *small; i++)
    if (small[i] > MOST_SMALL_NUMBER) return false;
  return card->memory_bytes > 0 && card->memory_bytes <= MOST_MEMORY_BYTES && card->sm_count > 0 &&
         card->capability_major > 0 && card->capability_major < 100 && card->capability_minor < 10 &&
         card->pci_domain <= 0xffff && card->pci_bus <= 0xff && card->pci_device <= 0x1f && card->uuid[0] != '\0' &&
         card->shared_bytes_per_sm <= INT_MAX && card->l2_bytes <= INT_MAX;
}

static int compare_pci(const sim_card *a, const sim_card *b) {
  if (a->pci_domain != b->pci_domain) return a->pci_domain < b->pci_domain ? -1 : 1;
  if (a->pci_bus != b->pci_bus) return a->pci_bus < b->pci_bus ? -1 : 1;
  return (a->pci_device > b->pci_device) - (a->pci_device < b->pci_device);
}

/* What comes before the slots. */
typedef struct head {
  sim_header header;
  sim_card cards[SIM_MAX_CARDS];
} head;

static_assert(sizeof(head) == offsetof(sim_state, slots), "layout of the state");

static sim_status read_head(const sim_store *store, head *into) {
  const size_t size = sizeof *into;
  for (size_t done = 0; done < size;) {
    ssize_t got = pread(store->fd, (char *)into + done, size - done, (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SIM_SYSTEM;
    if (got == 0) return SIM_INVALID;
    done += (size_t)got;
  }
  return SIM_OK;
}

sim_status sim_store_node(const sim_store *store, sim_node *node) {
  head *found = malloc(sizeof *found);
  if (found == NULL) return SIM_SYSTEM;
  sim_status status = read_head(store, found);
  memset(node, 0, sizeof *node);
  if (status == SIM_OK && (memcmp(found->header.magic, SIM_MAGIC, sizeof found->header.magic) != 0 ||
                           found->header.version != SIM_STATE_VERSION || found->header.card_count > SIM_MAX_CARDS ||
                           found->header.cuda_version > MOST_SMALL_NUMBER))
    status = SIM_INVALID;
  for (uint32_t i = 0; status == SIM_OK && i < found->header.card_count; i++) {
    sim_card card = found->cards[i];
    end_strings(&card);
    if (!card_plausible(&card)) status = SIM_INVALID;
    uint32_t at = i;
    for (; at > 0 && compare_pci(&card, &node->cards[at - 1]) < 0; at--) {
      node->cards[at] = node->cards[at - 1];
      node->index[at] = node->index[at - 1];
    }
    node->cards[at] = card;
    node->index[at] = i;
  }
  if (status == SIM_OK) {
    node->card_count = found->header.card_count;
    node->cuda_version = found->header.cuda_version;
    memcpy(node->driver_version, found->header.driver_version, sizeof node->driver_version);
    node->driver_version[sizeof node->driver_version - 1] = '\0';
  }
  free(found);
  return status;
}

bool sim_store_version(const sim_store *store, char version[36]) {
  ssize_t got = pread(store->fd, version, 36, (off_t)offsetof(sim_header, driver_version));
  version[35] = '\0';
  return got == 36;
}

bool sim_store_usable(const sim_store *store, const char *name) {
  char path[PATH_MAX];
  if ((size_t)snprintf(path, sizeof path, "%s/%s", store->root, name) >= sizeof path) return false;
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return false;
  close(fd);
  return true;
}

bool sim_card_visible(const sim_store *store, const sim_card *card) {
  char name[32];
  snprintf(name, sizeof name, "dev/nvidia%u", card->minor_number);
  return sim_store_usable(store, name);
}
