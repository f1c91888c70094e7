/* Which processes a program sees on a device, and what they use: those of its shares, in its own pid namespace.
 *
 * The processes and their memory come from the usage files, hence agree with every other view; the kernel says who they are here.  The
 * driver is asked, too: for its errors, for the instance of a partition, and for what only it knows. */
#include "device.h"
#include "driver.h"
#include "gate.h"
#include "hami_abi.h"
#include "prim.h"

enum { MOST = 1024, NO_INSTANCE = -1 };
_Static_assert(MOST >= HAMI_USAGE_SLOTS, "room for all processes of a share");

/* The processes of a device's shares. */
struct crowd {
  unsigned count;
  unsigned gpu_instance, compute_instance; /* of a partition */
  struct share_process processes[MOST];
};

/* The ids of the device's instances, as the driver has them. */
static void ask_instances(nvmlDevice_t device, struct crowd *crowd) {
  nvmlDeviceGetGpuInstanceId_fn *gpu_instance = DRIVER(nvmlDeviceGetGpuInstanceId);
  nvmlDeviceGetComputeInstanceId_fn *compute_instance = DRIVER(nvmlDeviceGetComputeInstanceId);
  if (gpu_instance == NULL || gpu_instance(device, &crowd->gpu_instance) != NVML_SUCCESS)
    crowd->gpu_instance = (unsigned)NO_INSTANCE;
  if (compute_instance == NULL || compute_instance(device, &crowd->compute_instance) != NVML_SUCCESS)
    crowd->compute_instance = (unsigned)NO_INSTANCE;
}

static void crowd_free(struct crowd **crowd) { prim_unmap(*crowd, sizeof **crowd); }

/* NULL when there is nothing to replace. */
static struct crowd *crowd_of(nvmlDevice_t device) {
  share_set shares;
  if (!device_shares_nvml(device, &shares) || shares == 0) return NULL;
  struct crowd *crowd = prim_pages(sizeof *crowd);
  if (crowd == NULL) return NULL;
  ask_instances(device, crowd);
  unsigned count = share_processes(shares, crowd->processes, MOST);
  for (unsigned i = 0; i < count; i++) {
    if (crowd->processes[i].pid != 0) crowd->processes[crowd->count++] = crowd->processes[i];
  }
  return crowd;
}

#define CROWD(name, device) __attribute__((cleanup(crowd_free))) struct crowd *name = limited ? crowd_of(device) : NULL

static const struct share_process *member(const struct crowd *crowd, unsigned int pid) {
  for (unsigned i = 0; i < crowd->count; i++) {
    if ((unsigned int)crowd->processes[i].pid == pid) return &crowd->processes[i];
  }
  return NULL;
}

/* ---- processes with a compute context ---- */

static nvmlReturn_t room_for(const struct crowd *crowd, unsigned int *count, const void *infos) {
  unsigned int room = infos != NULL ? *count : 0;
  *count = crowd->count;
  return room < crowd->count ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static nvmlReturn_t compute_v1(const struct crowd *crowd, unsigned int *count, nvmlProcessInfo_v1_t *infos) {
  nvmlReturn_t result = room_for(crowd, count, infos);
  for (unsigned i = 0; result == NVML_SUCCESS && i < crowd->count; i++) {
    infos[i].pid = (unsigned int)crowd->processes[i].pid;
    infos[i].usedGpuMemory = crowd->processes[i].used_bytes;
  }
  return result;
}

static nvmlReturn_t compute_v2(const struct crowd *crowd, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
  nvmlReturn_t result = room_for(crowd, count, infos);
  for (unsigned i = 0; result == NVML_SUCCESS && i < crowd->count; i++) {
    infos[i].pid = (unsigned int)crowd->processes[i].pid;
    infos[i].usedGpuMemory = crowd->processes[i].used_bytes;
    infos[i].gpuInstanceId = crowd->gpu_instance;
    infos[i].computeInstanceId = crowd->compute_instance;
  }
  return result;
}

/* What the driver says when it is only asked how many there are: its errors are the program's. */
static bool is_answer(nvmlReturn_t result) { return result == NVML_SUCCESS || result == NVML_ERROR_INSUFFICIENT_SIZE; }

#define COMPUTE(name, type, fill)                                                         \
  GUARD_EXPORT nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, type *infos) { \
    BEGIN_HOOK(name, NVML_ERROR_UNINITIALIZED);                                           \
    CROWD(crowd, device);                                                                 \
    unsigned int seen = 0;                                                                \
    if (crowd == NULL || count == NULL) return real(device, count, infos);                \
    nvmlReturn_t result = real(device, &seen, NULL);                                      \
    return is_answer(result) ? fill(crowd, count, infos) : result;                        \
  }

COMPUTE(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, compute_v1)
COMPUTE(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, compute_v2)
COMPUTE(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, compute_v2)

/* ---- processes with a context of another kind: those of the driver's that are of the shares ---- */

#define OTHERS(name, type)                                                                \
  GUARD_EXPORT nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, type *infos) { \
    BEGIN_HOOK(name, NVML_ERROR_UNINITIALIZED);                                           \
    CROWD(crowd, device);                                                                 \
    nvmlReturn_t result = real(device, count, infos);                                     \
    if (crowd == NULL || result != NVML_SUCCESS || infos == NULL) return result;          \
    unsigned int kept = 0;                                                                \
    for (unsigned int i = 0; i < *count; i++) {                                           \
      const struct share_process *own = member(crowd, infos[i].pid);                      \
      if (own == NULL) continue;                                                          \
      infos[kept] = infos[i];                                                             \
      infos[kept++].usedGpuMemory = own->used_bytes;                                      \
    }                                                                                     \
    *count = kept;                                                                        \
    return result;                                                                        \
  }

OTHERS(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
OTHERS(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
OTHERS(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
OTHERS(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
OTHERS(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
OTHERS(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)

GUARD_EXPORT nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *list) {
  BEGIN_HOOK(nvmlDeviceGetRunningProcessDetailList, NVML_ERROR_UNINITIALIZED);
  CROWD(crowd, device);
  nvmlReturn_t result = real(device, list);
  if (crowd == NULL || result != NVML_SUCCESS || list->procArray == NULL) return result;
  unsigned int kept = 0;
  for (unsigned int i = 0; i < list->numProcArrayEntries; i++) {
    const struct share_process *own = member(crowd, list->procArray[i].pid);
    if (own == NULL) continue;
    list->procArray[kept] = list->procArray[i];
    list->procArray[kept++].usedGpuMemory = own->used_bytes;
  }
  list->numProcArrayEntries = kept;
  return result;
}

/* ---- utilisation ---- */

GUARD_EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                                          unsigned int *count, unsigned long long since) {
  BEGIN_HOOK(nvmlDeviceGetProcessUtilization, NVML_ERROR_UNINITIALIZED);
  CROWD(crowd, device);
  nvmlReturn_t result = real(device, samples, count, since);
  if (crowd == NULL || result != NVML_SUCCESS || samples == NULL) return result;
  unsigned int kept = 0;
  for (unsigned int i = 0; i < *count; i++) {
    if (member(crowd, samples[i].pid) != NULL) samples[kept++] = samples[i];
  }
  *count = kept;
  return kept != 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

GUARD_EXPORT nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                                nvmlProcessesUtilizationInfo_t *info) {
  BEGIN_HOOK(nvmlDeviceGetProcessesUtilizationInfo, NVML_ERROR_UNINITIALIZED);
  CROWD(crowd, device);
  nvmlReturn_t result = real(device, info);
  if (crowd == NULL || result != NVML_SUCCESS || info->procUtilArray == NULL) return result;
  unsigned int kept = 0;
  for (unsigned int i = 0; i < info->processSamplesCount; i++) {
    if (member(crowd, info->procUtilArray[i].pid) != NULL) info->procUtilArray[kept++] = info->procUtilArray[i];
  }
  info->processSamplesCount = kept;
  return kept != 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

enum { SAMPLES = 4096, RECENT_US = 1000000 };

/* The latest sample of each of the shares' processes, added up. */
static void add_up(const struct crowd *crowd, const nvmlProcessUtilizationSample_t *samples, unsigned int count,
                   nvmlUtilization_t *sum) {
  for (unsigned i = 0; i < crowd->count; i++) {
    const nvmlProcessUtilizationSample_t *latest = NULL;
    for (unsigned int j = 0; j < count; j++) {
      bool own = samples[j].pid == (unsigned int)crowd->processes[i].pid;
      if (own && (latest == NULL || samples[j].timeStamp > latest->timeStamp)) latest = &samples[j];
    }
    if (latest == NULL) continue;
    sum->gpu += latest->smUtil;
    sum->memory += latest->memUtil;
  }
}

/* The share's own part of the card's time, in percent of the card, as the figures of its processes are: what neighbours do is theirs.
 * Where the driver does not tell processes apart the card's figure stays. */
GUARD_EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
  BEGIN_HOOK(nvmlDeviceGetUtilizationRates, NVML_ERROR_UNINITIALIZED);
  CROWD(crowd, device);
  nvmlReturn_t result = real(device, rates);
  __typeof__(&nvmlDeviceGetProcessUtilization) ask = REAL(nvmlDeviceGetProcessUtilization);
  if (crowd == NULL || result != NVML_SUCCESS || rates == NULL || ask == NULL) return result;
  nvmlProcessUtilizationSample_t *samples = prim_pages(SAMPLES * sizeof *samples);
  if (samples == NULL) return result;
  unsigned int count = SAMPLES;
  uint64_t now_us = prim_realtime_ns() / 1000;
  nvmlReturn_t told = ask(device, samples, &count, now_us - RECENT_US);
  nvmlUtilization_t sum = {0, 0};
  if (told == NVML_SUCCESS) add_up(crowd, samples, count, &sum);
  prim_unmap(samples, SAMPLES * sizeof *samples);
  if (told != NVML_SUCCESS && told != NVML_ERROR_NOT_FOUND) return result;
  rates->gpu = sum.gpu < rates->gpu ? sum.gpu : rates->gpu;
  rates->memory = sum.memory < rates->memory ? sum.memory : rates->memory;
  return result;
}
