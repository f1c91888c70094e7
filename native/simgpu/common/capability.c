#include "capability.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICES "dev/nvidia-caps"
#define ENTRIES "proc/driver/nvidia/capabilities"
#define GPU_INSTANCES 15u
#define COMPUTE_INSTANCES 8u

uint32_t sim_capability_minor(uint32_t device_minor, uint32_t instance, uint32_t compute) {
  uint32_t first = SIM_CAPABILITY_MONITOR + 1;
  uint32_t of_instance = first + (device_minor * GPU_INSTANCES + instance) * (1 + COMPUTE_INSTANCES);
  return compute == UINT32_MAX ? of_instance : of_instance + 1 + compute;
}

static bool device_path(const sim_store *store, uint32_t minor, char path[PATH_MAX]) {
  return (size_t)snprintf(path, PATH_MAX, "%s/" DEVICES "/nvidia-cap%u", store->root, minor) < PATH_MAX;
}

bool sim_capability_held(const sim_store *store, uint32_t minor) {
  char path[PATH_MAX];
  if (!device_path(store, minor, path)) return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return false;
  close(fd);
  return true;
}

/* Makes the folders above `path`, which begins with the root. */
static void make_folders(const sim_store *store, const char *path) {
  char part[PATH_MAX];
  snprintf(part, sizeof part, "%s", path);
  for (char *slash = part + strlen(store->root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
    *slash = '\0';
    mkdir(part, 0755);
    *slash = '/';
  }
}

static void write_file(const sim_store *store, const char *path, mode_t mode, const char *text) {
  make_folders(store, path);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return;
  /* A file that could not be written in full still says by its presence what it has to say. */
  if (fchmod(fd, mode) != 0 || write(fd, text, strlen(text)) < 0) unlink(path);
  close(fd);
}

static void add(const sim_store *store, const char *entry, uint32_t minor, mode_t mode) {
  char path[PATH_MAX];
  char text[96];
  snprintf(text, sizeof text, "DeviceFileMinor: %u\nDeviceFileMode: %u\nDeviceFileModify: 1\n", minor, (unsigned)mode);
  if ((size_t)snprintf(path, sizeof path, "%s/" ENTRIES "/%s", store->root, entry) < sizeof path)
    write_file(store, path, 0444, text);
  if (device_path(store, minor, path)) write_file(store, path, mode, "");
}

static void entry_name(const sim_card *card, uint32_t instance, uint32_t compute, char entry[96]) {
  if (compute == UINT32_MAX)
    snprintf(entry, 96, "gpu%u/mig/gi%u/access", card->minor_number, instance);
  else
    snprintf(entry, 96, "gpu%u/mig/gi%u/ci%u/access", card->minor_number, instance, compute);
}

void sim_capability_add(const sim_store *store, const sim_card *card, uint32_t instance, uint32_t compute) {
  char entry[96];
  entry_name(card, instance, compute, entry);
  add(store, entry, sim_capability_minor(card->minor_number, instance, compute), 0444);
}

void sim_capability_remove(const sim_store *store, const sim_card *card, uint32_t instance, uint32_t compute) {
  char entry[96];
  char path[PATH_MAX];
  entry_name(card, instance, compute, entry);
  if (device_path(store, sim_capability_minor(card->minor_number, instance, compute), path)) unlink(path);
  if ((size_t)snprintf(path, sizeof path, "%s/" ENTRIES "/%s", store->root, entry) >= sizeof path) return;
  unlink(path);
  *strrchr(path, '/') = '\0';
  rmdir(path);
}

void sim_capability_init(const sim_store *store) {
  add(store, "mig/config", SIM_CAPABILITY_CONFIG, 0400);
  add(store, "mig/monitor", SIM_CAPABILITY_MONITOR, 0444);
}
