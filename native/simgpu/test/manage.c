/* MIG and events through NVML from several threads, for sanitizers; prints and fails at the first wrong answer. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 4
#define ROUNDS 40
#define ONE_SLICE 19 /* the profile's id on an A100 */
#define WAIT_MS 10000u

#define EXPECT(call, wanted)                                                   \
  do {                                                                         \
    int got_ = (int)(call);                                                    \
    if (got_ != (int)(wanted)) {                                               \
      fprintf(stderr, "%s:%d: %s: got %d\n", __FILE__, __LINE__, #call, got_); \
      exit(1);                                                                 \
    }                                                                          \
  } while (0)
#define OK(call) EXPECT(call, NVML_SUCCESS)

static nvmlDevice_t card;

/* Makes and destroys an instance with all that belongs to it, again and again; others do the same. */
static void *churn(void *unused) {
  for (int i = 0; i < ROUNDS; i++) {
    nvmlGpuInstance_t instance;
    nvmlGpuInstanceInfo_t info;
    nvmlComputeInstance_t compute;
    nvmlComputeInstanceInfo_t detail;
    unsigned int count = 0;
    OK(nvmlDeviceCreateGpuInstance(card, ONE_SLICE, &instance));
    OK(nvmlGpuInstanceGetInfo(instance, &info));
    EXPECT(info.placement.size, 1);
    OK(nvmlGpuInstanceCreateComputeInstance(instance, 0, &compute));
    OK(nvmlComputeInstanceGetInfo_v2(compute, &detail));
    EXPECT(nvmlGpuInstanceDestroy(instance), NVML_ERROR_IN_USE);
    OK(nvmlDeviceGetGpuInstanceRemainingCapacity(card, ONE_SLICE, &count));
    OK(nvmlComputeInstanceDestroy(compute));
    OK(nvmlGpuInstanceDestroy(instance));
  }
  return unused;
}

/* Waits until as many changes have been told as there were, or as the ring keeps. */
static void *watch(void *set) {
  for (int i = 0; i < 4 * ROUNDS; i++) {
    nvmlEventData_t event;
    OK(nvmlEventSetWait_v2(set, &event, WAIT_MS));
    EXPECT(event.eventType, nvmlEventMigConfigChange);
  }
  return NULL;
}

/* MIG devices come and go; whoever is found answers or is gone, nothing else. */
static void *look(void *unused) {
  for (int i = 0; i < 4 * ROUNDS; i++) {
    nvmlDevice_t device;
    char uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
    nvmlMemory_t memory;
    nvmlReturn_t found = nvmlDeviceGetMigDeviceHandleByIndex(card, (unsigned int)i % 7, &device);
    if (found == NVML_ERROR_NOT_FOUND) continue;
    OK(found);
    nvmlReturn_t read = nvmlDeviceGetUUID(device, uuid, sizeof uuid);
    if (read == NVML_SUCCESS) read = nvmlDeviceGetMemoryInfo(device, &memory);
    EXPECT(read == NVML_SUCCESS || read == NVML_ERROR_INVALID_ARGUMENT, 1);
  }
  return unused;
}

int main(void) {
  pthread_t thread[THREADS];
  pthread_t watcher;
  pthread_t looker;
  nvmlEventSet_t set;
  nvmlReturn_t status;
  OK(nvmlInit_v2());
  OK(nvmlDeviceGetHandleByIndex_v2(0, &card));
  OK(nvmlDeviceSetMigMode(card, NVML_DEVICE_MIG_ENABLE, &status));
  OK(status);
  OK(nvmlEventSetCreate(&set));
  OK(nvmlDeviceRegisterEvents(card, nvmlEventMigConfigChange, set));
  EXPECT(pthread_create(&watcher, NULL, watch, set), 0);
  EXPECT(pthread_create(&looker, NULL, look, NULL), 0);
  for (int i = 0; i < THREADS; i++) EXPECT(pthread_create(&thread[i], NULL, churn, NULL), 0);
  for (int i = 0; i < THREADS; i++) EXPECT(pthread_join(thread[i], NULL), 0);
  EXPECT(pthread_join(watcher, NULL), 0);
  EXPECT(pthread_join(looker, NULL), 0);
  OK(nvmlEventSetFree(set));
  OK(nvmlDeviceSetMigMode(card, NVML_DEVICE_MIG_DISABLE, &status));
  OK(status);
  OK(nvmlShutdown());
  return 0;
}
