/* Devices: who they are. */
#include <stdio.h>
#include <string.h>

#include "driver.h"

CUresult cuDeviceGetCount(int *count) {
  NEED(count != NULL);
  TRY(driver_ready());
  *count = the_driver.device_count;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  gpu *found;
  NEED(device != NULL);
  TRY(driver_device(ordinal, &found));
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev) {
  gpu *found;
  NEED(name != NULL && len > 0);
  TRY(driver_device(dev, &found));
  snprintf(name, (size_t)len, "%s", found->facts.name);
  return CUDA_SUCCESS;
}

static unsigned int hexadecimal(char digit) {
  return digit >= 'a' ? (unsigned int)(digit - 'a') + 10u : (unsigned int)(digit - '0');
}

static void parse_uuid(const char *text, CUuuid *uuid) {
  memset(uuid, 0, sizeof *uuid);
  size_t digits = 0;
  for (text += strlen("GPU-"); *text != '\0' && digits < 32; text++) {
    if (strchr("0123456789abcdef", *text) == NULL) continue;
    unsigned int value = hexadecimal(*text) << (digits % 2 == 0 ? 4 : 0);
    uuid->bytes[digits / 2] = (char)((unsigned char)uuid->bytes[digits / 2] | value);
    digits++;
  }
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev) {
  gpu *found;
  NEED(uuid != NULL);
  TRY(driver_device(dev, &found));
  parse_uuid(found->facts.uuid, uuid);
  return CUDA_SUCCESS;
}

/* The first version knows nothing of MIG: it names the card. */
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev) {
  gpu *found;
  NEED(uuid != NULL);
  TRY(driver_device(dev, &found));
  parse_uuid(found->card_uuid, uuid);
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) {
  gpu *found;
  NEED(bytes != NULL);
  TRY(driver_device(dev, &found));
  *bytes = found->facts.memory_bytes;
  return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev) {
  gpu *found;
  NEED(major != NULL && minor != NULL);
  TRY(driver_device(dev, &found));
  *major = (int)found->facts.capability_major;
  *minor = (int)found->facts.capability_minor;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev) {
  gpu *found;
  NEED(pciBusId != NULL && len > 0);
  TRY(driver_device(dev, &found));
  int length = snprintf(pciBusId, (size_t)len, "%04X:%02X:%02X.0", found->facts.pci_domain, found->facts.pci_bus,
                        found->facts.pci_device);
  return length < len ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId) {
  unsigned int domain = 0;
  unsigned int bus;
  unsigned int number;
  NEED(dev != NULL && pciBusId != NULL);
  TRY(driver_ready());
  if (sscanf(pciBusId, "%x:%x:%x", &domain, &bus, &number) != 3) {
    domain = 0;
    NEED(sscanf(pciBusId, "%x:%x", &bus, &number) == 2);
  }
  for (int i = 0; i < the_driver.device_count; i++) {
    const sim_card *card = &the_driver.devices[i].facts;
    if (card->pci_domain != domain || card->pci_bus != bus || card->pci_device != number) continue;
    *dev = i;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetProperties(CUdevprop *prop, CUdevice dev) {
  gpu *found;
  NEED(prop != NULL);
  TRY(driver_device(dev, &found));
  *prop = (CUdevprop){
      .maxThreadsPerBlock = 1024,
      .maxThreadsDim = {1024, 1024, 64},
      .maxGridSize = {2147483647, 65535, 65535},
      .sharedMemPerBlock = 49152,
      .totalConstantMemory = 65536,
      .SIMDWidth = 32,
      .memPitch = 2147483647,
      .regsPerBlock = 65536,
      .clockRate = (int)found->facts.sm_clock_mhz * 1000,
      .textureAlign = 512,
  };
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetExecAffinitySupport(int *pi, CUexecAffinityType type, CUdevice dev) {
  gpu *found;
  (void)type;
  NEED(pi != NULL);
  TRY(driver_device(dev, &found));
  *pi = 0;
  return CUDA_SUCCESS;
}
