/* Event sets.  Nothing goes wrong with these cards, so waiting ends with its time-out. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "node.h"

struct nvmlEventSet_st {
  unsigned long long types;
};

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
  TRY(node_ready());
  NEED(set != NULL);
  *set = calloc(1, sizeof **set);
  return *set != NULL ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
  TRY(node_ready());
  NEED(set != NULL);
  free(set);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *eventTypes) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(eventTypes != NULL);
  *eventTypes = nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError | nvmlEventTypePState |
                nvmlEventTypeXidCriticalError | nvmlEventTypeClock;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long eventTypes, nvmlEventSet_t set) {
  unsigned long long supported;
  TRY(nvmlDeviceGetSupportedEventTypes(device, &supported));
  NEED(set != NULL);
  if ((eventTypes & ~supported) != 0) return NVML_ERROR_NOT_SUPPORTED;
  set->types |= eventTypes;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms) {
  TRY(node_ready());
  NEED(set != NULL && data != NULL);
  struct timespec rest = {.tv_sec = timeoutms / 1000u, .tv_nsec = (long)(timeoutms % 1000u) * 1000000L};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, &rest) == EINTR) {
  }
  return NVML_ERROR_TIMEOUT;
}
