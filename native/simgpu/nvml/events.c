/* Event sets: XIDs, ECC errors and changes of MIG, delivered to whoever registered before they happened. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "faults.h"
#include "node.h"

#define SECOND_NS UINT64_C(1000000000)
#define LONGEST_NAP_NS SECOND_NS

typedef struct registration {
  nvmlDevice_t device;
  unsigned long long types;
} registration;

struct nvmlEventSet_st {
  pthread_mutex_t mutex; /* guards what follows: threads may wait on one set, and each event goes to one of them */
  registration registrations[SIM_MAX_CARDS];
  unsigned int count;
  uint64_t next; /* number of the first event that has not been looked at */
  const sim_state *map;
};

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
  TRY(node_ready());
  NEED(set != NULL);
  struct nvmlEventSet_st *made = calloc(1, sizeof *made);
  if (made == NULL) return NVML_ERROR_MEMORY;
  void *map = mmap(NULL, SIM_STATE_SIZE, PROT_READ, MAP_SHARED, node_store()->fd, 0);
  if (map == MAP_FAILED) {
    free(made);
    return NVML_ERROR_OPERATING_SYSTEM;
  }
  pthread_mutex_init(&made->mutex, NULL);
  made->map = map;
  made->next = sim_event_next(node_store());
  *set = made;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
  TRY(node_ready());
  NEED(set != NULL);
  munmap((void *)set->map, SIM_STATE_SIZE);
  pthread_mutex_destroy(&set->mutex);
  free(set);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *eventTypes) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(eventTypes != NULL);
  *eventTypes = nvmlEventTypePState | nvmlEventTypeXidCriticalError | nvmlEventTypeClock;
  if (card->ecc_supported != 0) *eventTypes |= nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError;
  if (card->mig_supported != 0) *eventTypes |= nvmlEventMigConfigChange;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long eventTypes, nvmlEventSet_t set) {
  unsigned long long supported;
  TRY(nvmlDeviceGetSupportedEventTypes(device, &supported));
  NEED(set != NULL);
  if ((eventTypes & ~supported) != 0) return NVML_ERROR_NOT_SUPPORTED;
  pthread_mutex_lock(&set->mutex);
  unsigned int place = 0;
  while (place < set->count && set->registrations[place].device != device) place++;
  if (set->count == 0) set->next = sim_event_next(node_store());
  if (place == set->count) set->registrations[set->count++] = (registration){.device = device};
  set->registrations[place].types |= eventTypes;
  pthread_mutex_unlock(&set->mutex);
  return NVML_SUCCESS;
}

/* The next event that the set is registered for; false if there is none yet. */
static bool take(nvmlEventSet_t set, nvmlEventData_t *data) {
  const uint64_t end = sim_event_next(node_store());
  /* What the ring has overwritten is lost to those who come too late. */
  if (end - set->next > SIM_EVENTS) set->next = end > SIM_EVENTS ? end - SIM_EVENTS : 0;
  while (set->next < end) {
    sim_event event;
    if (!sim_event_read(node_store(), set->next++, &event)) continue;
    for (unsigned int i = 0; i < set->count; i++) {
      const registration *of = &set->registrations[i];
      if (of->device->card != event.card || (of->types & event.type) == 0) continue;
      *data = (nvmlEventData_t){.device = of->device,
                                .eventType = event.type,
                                .eventData = event.data,
                                .gpuInstanceId = event.gpu_instance,
                                .computeInstanceId = event.compute_instance};
      return true;
    }
  }
  return false;
}

static bool any_lost(const struct nvmlEventSet_st *set) {
  for (unsigned int i = 0; i < set->count; i++)
    if (sim_faults_read(node_store(), set->registrations[i].device->card).presence != SIM_PRESENT) return true;
  return false;
}

static uint64_t now_ns(void) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms) {
  TRY(node_ready());
  NEED(set != NULL && data != NULL);
  const uint64_t deadline = now_ns() + (uint64_t)timeoutms * 1000000u;
  for (;;) {
    pthread_mutex_lock(&set->mutex);
    bool found = take(set, data);
    bool lost = !found && any_lost(set);
    const uint64_t seen = set->next;
    pthread_mutex_unlock(&set->mutex);
    if (found) return NVML_SUCCESS;
    if (lost) return NVML_ERROR_GPU_IS_LOST;
    const uint64_t now = now_ns();
    if (now >= deadline) return NVML_ERROR_TIMEOUT;
    sim_event_sleep(set->map, seen, deadline - now < LONGEST_NAP_NS ? deadline - now : LONGEST_NAP_NS);
  }
}

/* The first version ended before the instances. */
nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeoutms) {
  nvmlEventData_t whole;
  NEED(data != NULL);
  TRY(nvmlEventSetWait_v2(set, &whole, timeoutms));
  memcpy(data, &whole, offsetof(nvmlEventData_t, gpuInstanceId));
  return NVML_SUCCESS;
}
