/* Utilisation: the share of time in which kernels ran, sampled as drivers do: six periods a second, whole percents, and
 * nothing of a period before it is over. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine_read.h"
#include "node.h"

#define NS_PER_US UINT64_C(1000)
/* Two clocks are read one after the other: times of one period may differ by this from call to call. */
#define CLOCKS_DIFFER_US UINT64_C(1000)

/* The periods that a caller has not seen. */
typedef struct window {
  uint64_t first, end; /* numbers of periods, without the end */
  uint64_t offset_us;  /* of the clock that samples are stamped with to the engine's */
} window;

static uint64_t stamp(const window *of, uint64_t period) {
  return (period + 1) * SIM_PERIOD_NS / NS_PER_US + of->offset_us;
}

static window window_since(const sim_engine *engine, unsigned long long last_seen_us) {
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t now_us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / NS_PER_US;
  window seen = {.end = engine->now_ns / SIM_PERIOD_NS, .offset_us = now_us - sim_clock_ns() / NS_PER_US};
  seen.first = seen.end < SIM_PERIODS ? 0 : seen.end - (SIM_PERIODS - 1);
  while (seen.first < seen.end && stamp(&seen, seen.first) <= last_seen_us + CLOCKS_DIFFER_US) seen.first++;
  return seen;
}

static unsigned int percent(uint64_t ns, uint64_t periods) {
  return (unsigned int)(ns * 100 / (periods * SIM_PERIOD_NS));
}

static nvmlReturn_t read_engine(nvmlDevice_t device, sim_engine_copy *copy) {
  nvmlReturn_t result = node_error(sim_engine_read(node_store(), device->card, copy));
  if (result != NVML_SUCCESS) sim_engine_forget(copy);
  return result;
}

/* ---- of the card ------------------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
  const sim_card *card;
  sim_engine_copy copy;
  TRY(node_card(device, &card));
  NEED(utilization != NULL);
  TRY(read_engine(device, &copy));
  uint64_t last = copy.engine->now_ns / SIM_PERIOD_NS - 1;
  utilization->gpu = percent(sim_history_ns(copy.engine->history, last), 1);
  utilization->memory = 0; /* kernels touch no memory */
  sim_engine_forget(&copy);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, unsigned long long lastSeenTimeStamp,
                                  nvmlValueType_t *sampleValType, unsigned int *sampleCount, nvmlSample_t *samples) {
  const sim_card *card;
  sim_engine_copy copy;
  TRY(node_card(device, &card));
  NEED(sampleValType != NULL && sampleCount != NULL && type < NVML_SAMPLINGTYPE_COUNT);
  NEED(samples == NULL || *sampleCount > 0);
  if (type != NVML_GPU_UTILIZATION_SAMPLES) return NVML_ERROR_NOT_SUPPORTED;
  TRY(read_engine(device, &copy));
  window unseen = window_since(copy.engine, lastSeenTimeStamp);
  uint64_t count = unseen.end - unseen.first;
  if (samples != NULL && count > *sampleCount) unseen.first = unseen.end - *sampleCount; /* the latest */
  *sampleValType = NVML_VALUE_TYPE_UNSIGNED_INT;
  for (uint64_t period = unseen.first; samples != NULL && period < unseen.end; period++, samples++) {
    samples->timeStamp = stamp(&unseen, period);
    samples->sampleValue.uiVal = percent(sim_history_ns(copy.engine->history, period), 1);
  }
  *sampleCount = (unsigned int)(unseen.end - unseen.first);
  sim_engine_forget(&copy);
  return count > 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

/* ---- of processes ------------------------------------------------------------------------------------------------ */

typedef struct process_sample {
  unsigned int pid;
  unsigned long long time_us;
  unsigned int percent;
} process_sample;

/* The mean from the first unseen period in which the process ran; false if it ran in none. */
static bool sample_process(const sim_history history, const window *unseen, process_sample *into) {
  uint64_t first = unseen->first;
  while (first < unseen->end && sim_history_ns(history, first) == 0) first++;
  if (first == unseen->end) return false;
  uint64_t sum = 0;
  uint64_t last = first;
  for (uint64_t period = first; period < unseen->end; period++) {
    uint64_t ns = sim_history_ns(history, period);
    sum += ns;
    if (ns > 0) last = period;
  }
  into->time_us = stamp(unseen, last);
  into->percent = percent(sum, unseen->end - first);
  return true;
}

/* Samples of the living processes that have any since then; `samples` has room for all. */
static nvmlReturn_t sample_processes(nvmlDevice_t device, unsigned long long since, process_sample *samples,
                                     unsigned int *count) {
  sim_engine_copy copy;
  sim_usage usage = {.visible_only = true, .processes = malloc(SIM_MAX_SLOTS * sizeof(sim_process))};
  *count = 0;
  if (usage.processes == NULL) return NVML_ERROR_MEMORY;
  nvmlReturn_t result = node_error(sim_usage_read(node_store(), device->card, &usage));
  if (result == NVML_SUCCESS) result = read_engine(device, &copy);
  if (result == NVML_SUCCESS) {
    window unseen = window_since(copy.engine, since);
    for (uint32_t i = 0; i < usage.process_count; i++) {
      uint32_t slot = sim_identity_slot(usage.processes[i].identity) % SIM_MAX_SLOTS;
      if (copy.engine->processes[slot].identity != usage.processes[i].identity) continue;
      samples[*count].pid = (unsigned int)usage.processes[i].pid;
      if (sample_process(copy.engine->histories[slot], &unseen, &samples[*count])) ++*count;
    }
    sim_engine_forget(&copy);
  }
  free(usage.processes);
  return result;
}

/* Room that a first call, which asks for the number, tells its caller to have. */
static nvmlReturn_t running(nvmlDevice_t device, unsigned int *count) {
  sim_usage usage = {.visible_only = true};
  TRY(node_error(sim_usage_read(node_store(), device->card, &usage)));
  *count = usage.process_count;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *utilization,
                                             unsigned int *processSamplesCount, unsigned long long lastSeenTimeStamp) {
  static __thread process_sample samples[SIM_MAX_SLOTS];
  const sim_card *card;
  unsigned int found;
  TRY(node_card(device, &card));
  NEED(processSamplesCount != NULL);
  if (utilization == NULL) {
    TRY(running(device, processSamplesCount));
    return *processSamplesCount > 0 ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_ERROR_NOT_FOUND;
  }
  unsigned int room = *processSamplesCount;
  TRY(sample_processes(device, lastSeenTimeStamp, samples, &found));
  *processSamplesCount = found;
  if (found == 0) return NVML_ERROR_NOT_FOUND;
  if (found > room) return NVML_ERROR_INSUFFICIENT_SIZE;
  memset(utilization, 0, found * sizeof *utilization);
  for (unsigned int i = 0; i < found; i++) {
    utilization[i].pid = samples[i].pid;
    utilization[i].timeStamp = samples[i].time_us;
    utilization[i].smUtil = samples[i].percent;
  }
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                   nvmlProcessesUtilizationInfo_t *procesesUtilInfo) {
  static __thread process_sample samples[SIM_MAX_SLOTS];
  const sim_card *card;
  unsigned int found;
  TRY(node_card(device, &card));
  NEED(procesesUtilInfo != NULL);
  if (procesesUtilInfo->version != nvmlProcessesUtilizationInfo_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  unsigned int room = procesesUtilInfo->procUtilArray != NULL ? procesesUtilInfo->processSamplesCount : 0;
  TRY(sample_processes(device, procesesUtilInfo->lastSeenTimeStamp, samples, &found));
  procesesUtilInfo->processSamplesCount = found;
  if (found == 0) return NVML_ERROR_NOT_FOUND;
  if (found > room) return NVML_ERROR_INSUFFICIENT_SIZE;
  nvmlProcessUtilizationInfo_v1_t *infos = procesesUtilInfo->procUtilArray;
  memset(infos, 0, found * sizeof *infos);
  for (unsigned int i = 0; i < found; i++) {
    infos[i].pid = samples[i].pid;
    infos[i].timeStamp = samples[i].time_us;
    infos[i].smUtil = samples[i].percent;
  }
  return NVML_SUCCESS;
}
