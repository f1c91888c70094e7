/* PCI and topology. */
#include <stdio.h>
#include <string.h>

#include "node.h"

#define LINK_WIDTH 16u
#define DISPLAY_CLASS 3u
#define CONTROLLER_3D 2u

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(pci != NULL);
  memset(pci, 0, sizeof *pci);
  snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", card->pci_domain, card->pci_bus & 0xff,
           card->pci_device & 0xff);
  snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", card->pci_domain, card->pci_bus, card->pci_device);
  pci->domain = card->pci_domain;
  pci->bus = card->pci_bus;
  pci->device = card->pci_device;
  pci->pciDeviceId = card->pci_device_id;
  pci->pciSubSystemId = card->pci_subsystem_id;
  return NVML_SUCCESS;
}

/* The earlier structures are the beginning of the present one. */
static nvmlReturn_t first_bytes(nvmlDevice_t device, nvmlPciInfo_t *pci, size_t size) {
  nvmlPciInfo_t whole;
  TRY(nvmlDeviceGetPciInfo_v3(device, &whole));
  NEED(pci != NULL);
  memcpy(pci, &whole, size);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) {
  return first_bytes(device, pci, offsetof(nvmlPciInfo_t, busId));
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) {
  return first_bytes(device, pci, offsetof(nvmlPciInfo_t, pciSubSystemId));
}

nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t *pci) {
  nvmlPciInfo_t plain;
  NEED(pci != NULL);
  TRY(nvmlDeviceGetPciInfo_v3(device, &plain));
  if (pci->version != nvmlPciInfoExt_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  pci->domain = plain.domain;
  pci->bus = plain.bus;
  pci->device = plain.device;
  pci->pciDeviceId = plain.pciDeviceId;
  pci->pciSubSystemId = plain.pciSubSystemId;
  pci->baseClass = DISPLAY_CLASS;
  pci->subClass = CONTROLLER_3D;
  memcpy(pci->busId, plain.busId, sizeof pci->busId);
  return NVML_SUCCESS;
}

static nvmlReturn_t generation(nvmlDevice_t device, unsigned int *value) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(value != NULL);
  *value = card->pcie_generation;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t device, unsigned int *maxLinkGen) {
  return generation(device, maxLinkGen);
}

nvmlReturn_t nvmlDeviceGetGpuMaxPcieLinkGeneration(nvmlDevice_t device, unsigned int *maxLinkGenDevice) {
  return generation(device, maxLinkGenDevice);
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t device, unsigned int *currLinkGen) {
  return generation(device, currLinkGen);
}

nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t device, unsigned int *maxLinkWidth) {
  TRY(generation(device, maxLinkWidth));
  *maxLinkWidth = LINK_WIDTH;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t device, unsigned int *currLinkWidth) {
  return nvmlDeviceGetMaxPcieLinkWidth(device, currLinkWidth);
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, nvmlPcieUtilCounter_t counter, unsigned int *value) {
  NEED(counter < NVML_PCIE_UTIL_COUNT);
  TRY(generation(device, value));
  *value = 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t device, unsigned int *value) {
  TRY(generation(device, value));
  *value = 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBusType(nvmlDevice_t device, nvmlBusType_t *type) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(type != NULL);
  *type = NVML_BUS_TYPE_PCIE;
  return NVML_SUCCESS;
}

/* Without links of their own, cards of one NUMA node meet at its bridge, others at the interconnect of the sockets. */
nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device1, nvmlDevice_t device2,
                                                 nvmlGpuTopologyLevel_t *pathInfo) {
  const sim_card *first;
  const sim_card *second;
  TRY(node_card(device1, &first));
  TRY(node_card(device2, &second));
  NEED(pathInfo != NULL);
  *pathInfo = first == second                         ? NVML_TOPOLOGY_INTERNAL
              : first->numa_node == second->numa_node ? NVML_TOPOLOGY_NODE
                                                      : NVML_TOPOLOGY_SYSTEM;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t device1, nvmlDevice_t device2, nvmlGpuP2PCapsIndex_t p2pIndex,
                                    nvmlGpuP2PStatus_t *p2pStatus) {
  const sim_card *card;
  TRY(node_card(device1, &card));
  TRY(node_card(device2, &card));
  NEED(p2pStatus != NULL && p2pIndex < NVML_P2P_CAPS_INDEX_UNKNOWN);
  *p2pStatus = NVML_P2P_STATUS_GPU_NOT_SUPPORTED;
  return NVML_SUCCESS;
}
