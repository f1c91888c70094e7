/* A sysfs of the node's own: what tools look up about a PCI device. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "simctl.h"

static int write_number(const char *root, const char *folder, const char *name, const char *format, long value) {
  char path[PATH_MAX];
  char text[64];
  int failed = path_join(path, folder, name);
  if (failed) return failed;
  snprintf(text, sizeof text, format, value);
  return write_text(root, path, text);
}

int write_sysfs(const char *root, const sim_card *card) {
  char address[32];
  char folder[PATH_MAX / 2];
  char path[PATH_MAX];
  char target[PATH_MAX];
  snprintf(address, sizeof address, "%04x:%02x:%02x.0", card->pci_domain, card->pci_bus, card->pci_device);
  /* As on real machines, a root complex of which the card's folder is a descendant, and a link to it. */
  snprintf(folder, sizeof folder, "sys/devices/pci%04x:%02x/%s", card->pci_domain, card->pci_bus, address);
  int failed = path_join(path, root, folder);
  if (!failed) failed = make_folders(path);
  if (!failed) failed = path_join(path, root, "sys/bus/pci/devices");
  if (!failed) failed = make_folders(path);
  const struct {
    const char *name, *format;
    long value;
  } files[] = {
      {"vendor", "0x%04lx\n", card->pci_device_id & 0xffff},
      {"device", "0x%04lx\n", card->pci_device_id >> 16},
      {"subsystem_vendor", "0x%04lx\n", card->pci_subsystem_id & 0xffff},
      {"subsystem_device", "0x%04lx\n", card->pci_subsystem_id >> 16},
      {"class", "0x%06lx\n", 0x030200},
      {"numa_node", "%ld\n", card->numa_node},
      {"max_link_width", "%ld\n", 16},
      {"enable", "%ld\n", 1},
  };
  for (size_t i = 0; !failed && i < sizeof files / sizeof *files; i++)
    failed = write_number(root, folder, files[i].name, files[i].format, files[i].value);
  if (!failed) failed = path_join(path, "sys/bus/pci/devices", address);
  char link[PATH_MAX];
  if (!failed) failed = path_join(link, root, path);
  if (failed) return failed;
  snprintf(target, sizeof target, "../../../devices/pci%04x:%02x/%s", card->pci_domain, card->pci_bus, address);
  if (symlink(target, link) != 0 && errno != EEXIST) return simctl_fail("%s: %s", link, strerror(errno));
  return SIMCTL_OK;
}
