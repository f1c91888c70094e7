/* Handles, and what a card is. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "instance.h"

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount) {
  TRY(node_ready());
  NEED(deviceCount != NULL);
  node_devices(deviceCount);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
  unsigned int count;
  TRY(node_ready());
  nvmlDevice_t devices = node_devices(&count);
  NEED(device != NULL && index < count);
  TRY(node_answers(&devices[index]));
  *device = &devices[index];
  return NVML_SUCCESS;
}

/* The card with that text in its member at `offset`. */
static nvmlReturn_t find_by_text(const char *text, size_t offset, nvmlDevice_t *device) {
  unsigned int count;
  TRY(node_ready());
  nvmlDevice_t devices = node_devices(&count);
  NEED(text != NULL && device != NULL);
  for (unsigned int i = 0; i < count; i++) {
    if (strcasecmp((const char *)&devices[i].facts + offset, text) != 0) continue;
    *device = &devices[i];
    return node_answers(&devices[i]);
  }
  return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
  if (uuid != NULL && strncmp(uuid, "MIG-", 4) == 0) {
    TRY(node_ready());
    NEED(device != NULL);
    return mig_by_uuid(uuid, device);
  }
  return find_by_text(uuid, offsetof(sim_card, uuid), device);
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
  return find_by_text(serial, offsetof(sim_card, serial), device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device) {
  unsigned int count;
  unsigned int domain = 0;
  unsigned int bus;
  unsigned int number;
  TRY(node_ready());
  nvmlDevice_t devices = node_devices(&count);
  NEED(pciBusId != NULL && device != NULL);
  if (sscanf(pciBusId, "%x:%x:%x", &domain, &bus, &number) != 3) {
    domain = 0;
    NEED(sscanf(pciBusId, "%x:%x", &bus, &number) == 2);
  }
  for (unsigned int i = 0; i < count; i++) {
    const sim_card *card = &devices[i].facts;
    if (card->pci_domain != domain || card->pci_bus != bus || card->pci_device != number) continue;
    *device = &devices[i];
    return node_answers(&devices[i]);
  }
  return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
  const sim_card *card;
  unsigned int count;
  TRY(node_card(device, &card));
  NEED(index != NULL);
  *index = (unsigned int)(device - node_devices(&count));
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minorNumber) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(minorNumber != NULL);
  *minorNumber = card->minor_number;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
  const sim_card *card;
  TRY(node_device(device, &card));
  return give_text(name, length, card->name);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
  const sim_card *card;
  TRY(node_device(device, &card));
  return give_text(uuid, length, card->uuid);
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned int length) {
  const sim_card *card;
  TRY(node_device(device, &card));
  return give_text(serial, length, card->serial);
}

nvmlReturn_t nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char *partNumber, unsigned int length) {
  const sim_card *card;
  TRY(node_card(device, &card));
  return give_text(partNumber, length, card->part_number);
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned int length) {
  const sim_card *card;
  TRY(node_card(device, &card));
  return give_text(version, length, card->vbios);
}

nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, nvmlBrandType_t *type) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(type != NULL);
  *type = NVML_BRAND_NVIDIA;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, nvmlDeviceArchitecture_t *arch) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(arch != NULL);
  *arch = card->architecture;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(major != NULL && minor != NULL);
  *major = (int)card->capability_major;
  *minor = (int)card->capability_minor;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNumGpuCores(nvmlDevice_t device, unsigned int *numCores) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(numCores != NULL);
  *numCores = card->sm_count * card->cores_per_sm;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t device, unsigned int *busWidth) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(busWidth != NULL);
  *busWidth = card->memory_bus_bits;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int *node) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(node != NULL);
  if (card->numa_node < 0) return NVML_ERROR_NOT_SUPPORTED;
  *node = (unsigned int)card->numa_node;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBoardId(nvmlDevice_t device, unsigned int *boardId) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(boardId != NULL);
  *boardId = card->pci_domain << 16 | card->pci_bus << 8 | card->pci_device << 3;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMultiGpuBoard(nvmlDevice_t device, unsigned int *multiGpuBool) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(multiGpuBool != NULL);
  *multiGpuBool = 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t device1, nvmlDevice_t device2, int *onSameBoard) {
  const sim_card *card;
  TRY(node_card(device1, &card));
  TRY(node_card(device2, &card));
  NEED(onSameBoard != NULL);
  *onSameBoard = device1 == device2;
  return NVML_SUCCESS;
}
