/* Memory and processes, as the state file has them at this instant. */
#include <stdlib.h>
#include <string.h>

#include "node.h"

#define NO_INSTANCE 0xffffffffu

static nvmlReturn_t used_bytes(nvmlDevice_t device, unsigned long long *used) {
  sim_usage usage = {.only = node_instance(device)};
  TRY(node_error(sim_usage_read(node_store(), device->card, &usage)));
  *used = usage.used_bytes < device->facts.memory_bytes ? usage.used_bytes : device->facts.memory_bytes;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(memory != NULL);
  TRY(used_bytes(device, &memory->used));
  memory->total = card->memory_bytes;
  memory->free = memory->total - memory->used;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(memory != NULL);
  if (memory->version != nvmlMemory_v2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  TRY(used_bytes(device, &memory->used));
  memory->total = card->memory_bytes;
  memory->reserved = 0;
  memory->free = memory->total - memory->used;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *bar1Memory) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(bar1Memory != NULL);
  /* Resizable: the power of two that holds all of the card's memory. */
  bar1Memory->bar1Total = 1;
  while (bar1Memory->bar1Total < card->memory_bytes) bar1Memory->bar1Total *= 2;
  bar1Memory->bar1Used = 0;
  bar1Memory->bar1Free = bar1Memory->bar1Total;
  return NVML_SUCCESS;
}

/* ---- processes --------------------------------------------------------------------------------------------------- */

/* One process, and where it works; NO_INSTANCE for a whole card. */
typedef struct seen_process {
  const sim_process *process;
  unsigned int gpu_instance, compute_instance;
} seen_process;

/* Writes one process in the layout of the structure's version. */
typedef void write_process(void *infos, unsigned int index, const seen_process *seen);

static void locate(const sim_card *card, const sim_mig *mig, seen_process *seen) {
  uint32_t word = seen->process->instance;
  uint32_t place = word >> 8 & 0xff;
  seen->gpu_instance = NO_INSTANCE;
  seen->compute_instance = NO_INSTANCE;
  if (word == 0 || place >= SIM_MAX_GPU_INSTANCES || mig->instances[place].serial == 0) return;
  seen->gpu_instance = sim_instance_id(sim_geometry_of(card), mig->instances[place].start, mig->instances[place].size);
  seen->compute_instance = word & 0xff;
}

static void write_v1(void *infos, unsigned int index, const seen_process *seen) {
  const sim_process *process = seen->process;
  nvmlProcessInfo_v1_t *info = (nvmlProcessInfo_v1_t *)infos + index;
  info->pid = (unsigned int)process->pid;
  info->usedGpuMemory = process->use.used_bytes;
}

static void write_v2(void *infos, unsigned int index, const seen_process *seen) {
  const sim_process *process = seen->process;
  nvmlProcessInfo_v2_t *info = (nvmlProcessInfo_v2_t *)infos + index;
  info->pid = (unsigned int)process->pid;
  info->usedGpuMemory = process->use.used_bytes;
  info->gpuInstanceId = seen->gpu_instance;
  info->computeInstanceId = seen->compute_instance;
}

/* Of a GPU instance's processes those of the one compute instance. */
static void keep_own(nvmlDevice_t device, sim_usage *usage) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < usage->process_count; i++)
    if (sim_instance_within(usage->processes[i].instance, device->card, device->place, device->id))
      usage->processes[kept++] = usage->processes[i];
  usage->process_count = kept;
}

static nvmlReturn_t compute_processes(nvmlDevice_t device, unsigned int *count, void *infos, write_process *write) {
  const sim_card *card;
  sim_condition now;
  TRY(node_device(device, &card));
  NEED(count != NULL);
  unsigned int room = infos != NULL ? *count : 0;
  sim_usage usage = {
      .visible_only = true, .only = node_instance(device), .processes = malloc(SIM_MAX_SLOTS * sizeof(sim_process))};
  if (usage.processes == NULL) return NVML_ERROR_MEMORY;
  nvmlReturn_t result = node_error(sim_usage_read(node_store(), device->card, &usage));
  if (device->serial != 0) keep_own(device, &usage);
  if (result == NVML_SUCCESS) {
    *count = usage.process_count;
    if (usage.process_count > room) result = NVML_ERROR_INSUFFICIENT_SIZE;
  }
  card = device->serial != 0 ? &device->parent->facts : card;
  if (result == NVML_SUCCESS) result = node_error(sim_condition_read(node_store(), card, device->card, &now));
  for (unsigned int i = 0; result == NVML_SUCCESS && i < usage.process_count; i++) {
    seen_process seen = {.process = &usage.processes[i]};
    locate(card, &now.mig, &seen);
    write(infos, i, &seen);
  }
  free(usage.processes);
  return result;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *infoCount,
                                                     nvmlProcessInfo_t *infos) {
  return compute_processes(device, infoCount, infos, write_v2);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *infoCount,
                                                     nvmlProcessInfo_v2_t *infos) {
  return compute_processes(device, infoCount, infos, write_v2);
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *infoCount,
                                                  nvmlProcessInfo_v1_t *infos) {
  return compute_processes(device, infoCount, infos, write_v1);
}

static void write_detail(void *infos, unsigned int index, const seen_process *seen) {
  nvmlProcessDetail_v1_t *info = (nvmlProcessDetail_v1_t *)infos + index;
  info->pid = (unsigned int)seen->process->pid;
  info->usedGpuMemory = seen->process->use.used_bytes;
  info->gpuInstanceId = seen->gpu_instance;
  info->computeInstanceId = seen->compute_instance;
  info->usedGpuCcProtectedMemory = 0;
}

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *plist) {
  const sim_card *card;
  NEED(plist != NULL);
  if (plist->version != nvmlProcessDetailList_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  NEED(plist->mode < NVML_PROCESS_MODE_MAX);
  if (plist->mode == NVML_PROCESS_MODE_COMPUTE || plist->mode == NVML_PROCESS_MODE_ALL)
    return compute_processes(device, &plist->numProcArrayEntries, plist->procArray, write_detail);
  TRY(node_device(device, &card));
  plist->numProcArrayEntries = 0;
  return NVML_SUCCESS;
}

/* Nobody draws, and nobody serves MPS clients. */
static nvmlReturn_t no_processes(nvmlDevice_t device, unsigned int *count) {
  const sim_card *card;
  TRY(node_device(device, &card));
  NEED(count != NULL);
  *count = 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *infoCount,
                                                      nvmlProcessInfo_t *infos) {
  (void)infos;
  return no_processes(device, infoCount);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t device, unsigned int *infoCount,
                                                      nvmlProcessInfo_v2_t *infos) {
  (void)infos;
  return no_processes(device, infoCount);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t device, unsigned int *infoCount,
                                                   nvmlProcessInfo_v1_t *infos) {
  (void)infos;
  return no_processes(device, infoCount);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *infoCount,
                                                        nvmlProcessInfo_t *infos) {
  (void)infos;
  return no_processes(device, infoCount);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *infoCount,
                                                        nvmlProcessInfo_v2_t *infos) {
  (void)infos;
  return no_processes(device, infoCount);
}

nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t device, unsigned int *infoCount,
                                                     nvmlProcessInfo_v1_t *infos) {
  (void)infos;
  return no_processes(device, infoCount);
}

/* ---- other engines ------------------------------------------------------------------------------------------------- */

static nvmlReturn_t idle_engine(nvmlDevice_t device, unsigned int *utilization, unsigned int *period) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(utilization != NULL && period != NULL);
  *utilization = 0;
  *period = 167000;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned int *utilization,
                                             unsigned int *samplingPeriodUs) {
  return idle_engine(device, utilization, samplingPeriodUs);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned int *utilization,
                                             unsigned int *samplingPeriodUs) {
  return idle_engine(device, utilization, samplingPeriodUs);
}
