/* Accounting: what processes used of a card, also of those that are dead. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine_read.h"
#include "node.h"

#define HUNDRED_PERCENT 100u

static nvmlReturn_t read_accounts(nvmlDevice_t device, sim_accounts *accounts) {
  const sim_card *card;
  sim_session *session;
  TRY(node_card(device, &card));
  /* Who may write sees the dead of this very moment; who may not, those that somebody else noticed. */
  if (node_writer(&session) == NVML_SUCCESS) sim_session_reap(session);
  const off_t place = (off_t)(offsetof(sim_state, accounts) + device->card * sizeof *accounts);
  if (pread(node_store()->fd, accounts, sizeof *accounts, place) != (ssize_t)sizeof *accounts)
    return NVML_ERROR_UNKNOWN;
  return NVML_SUCCESS;
}

static nvmlReturn_t change(nvmlDevice_t device, sim_session **session, sim_accounts **accounts) {
  const sim_card *card;
  TRY(node_card(device, &card));
  if (geteuid() != 0) return NVML_ERROR_NO_PERMISSION;
  TRY(node_writer(session));
  TRY(node_error(sim_session_enter(*session)));
  *accounts = &(*session)->store.map->accounts[device->card];
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
  sim_accounts accounts;
  NEED(mode != NULL);
  TRY(read_accounts(device, &accounts));
  *mode = accounts.enabled != 0 ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetAccountingMode(nvmlDevice_t device, nvmlEnableState_t mode) {
  sim_session *session;
  sim_accounts *accounts;
  NEED(mode == NVML_FEATURE_ENABLED || mode == NVML_FEATURE_DISABLED);
  TRY(change(device, &session, &accounts));
  accounts->enabled = mode == NVML_FEATURE_ENABLED;
  sim_session_leave(session);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceClearAccountingPids(nvmlDevice_t device) {
  sim_session *session;
  sim_accounts *accounts;
  TRY(change(device, &session, &accounts));
  __atomic_store_n(&accounts->next, 0u, __ATOMIC_RELEASE);
  sim_session_leave(session);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingBufferSize(nvmlDevice_t device, unsigned int *bufferSize) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(bufferSize != NULL);
  *bufferSize = SIM_ACCOUNTS;
  return NVML_SUCCESS;
}

static uint32_t past_count(const sim_accounts *accounts) {
  return accounts->next < SIM_ACCOUNTS ? accounts->next : SIM_ACCOUNTS;
}

static nvmlReturn_t read_living(nvmlDevice_t device, sim_usage *usage) {
  usage->visible_only = true;
  usage->processes = malloc(SIM_MAX_SLOTS * sizeof *usage->processes);
  if (usage->processes == NULL) return NVML_ERROR_MEMORY;
  return node_error(sim_usage_read(node_store(), device->card, usage));
}

static nvmlReturn_t enabled(nvmlDevice_t device, sim_accounts *accounts) {
  TRY(read_accounts(device, accounts));
  return accounts->enabled != 0 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids) {
  sim_accounts accounts;
  sim_usage usage = {.processes = NULL};
  NEED(count != NULL);
  TRY(enabled(device, &accounts));
  const unsigned int room = pids != NULL ? *count : 0;
  nvmlReturn_t result = read_living(device, &usage);
  if (result == NVML_SUCCESS) {
    *count = past_count(&accounts) + usage.process_count;
    if (*count > room) result = NVML_ERROR_INSUFFICIENT_SIZE;
  }
  for (uint32_t i = 0; result == NVML_SUCCESS && i < *count; i++)
    pids[i] = i < usage.process_count ? (unsigned int)usage.processes[i].pid
                                      : (unsigned int)accounts.past[i - usage.process_count].pid;
  free(usage.processes);
  return result;
}

static unsigned int percent(uint64_t part_ns, uint64_t whole_ns) {
  if (whole_ns == 0 || part_ns >= whole_ns) return whole_ns == 0 ? 0 : HUNDRED_PERCENT;
  return (unsigned int)((double)part_ns * HUNDRED_PERCENT / (double)whole_ns);
}

/* A living process: its time is 0, as documented, and its utilisation that of its life so far. */
static nvmlReturn_t living_stats(nvmlDevice_t device, const sim_process *process, nvmlAccountingStats_t *stats) {
  sim_engine_copy engine;
  struct timespec now = {0, 0};
  clock_gettime(CLOCK_BOOTTIME, &now);
  const uint64_t present = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  TRY(node_error(sim_engine_read(node_store(), device->card, &engine)));
  *stats = (nvmlAccountingStats_t){
      .gpuUtilization = percent(sim_copy_gpu_time(&engine, process->identity), present - process->start_time_ns),
      .maxMemoryUsage = process->use.peak_bytes,
      .startTime = sim_start_us(process->start_time_ns),
      .isRunning = 1,
  };
  sim_engine_forget(&engine);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats) {
  sim_accounts accounts;
  sim_usage usage = {.processes = NULL};
  NEED(stats != NULL);
  TRY(enabled(device, &accounts));
  nvmlReturn_t result = read_living(device, &usage);
  bool found = false;
  for (uint32_t i = 0; result == NVML_SUCCESS && !found && i < usage.process_count; i++) {
    found = (unsigned int)usage.processes[i].pid == pid;
    if (found) result = living_stats(device, &usage.processes[i], stats);
  }
  free(usage.processes);
  /* Of several dead processes with one pid the last. */
  for (uint32_t i = 0; result == NVML_SUCCESS && !found && i < past_count(&accounts); i++) {
    const sim_past *past = &accounts.past[(accounts.next - 1 - i) % SIM_ACCOUNTS];
    found = (unsigned int)past->pid == pid;
    if (!found) continue;
    *stats = (nvmlAccountingStats_t){.gpuUtilization = percent(past->gpu_time_ns, past->lived_ms * 1000000u),
                                     .maxMemoryUsage = past->peak_bytes,
                                     .time = past->lived_ms,
                                     .startTime = past->start_us};
  }
  return result == NVML_SUCCESS && !found ? NVML_ERROR_NOT_FOUND : result;
}
