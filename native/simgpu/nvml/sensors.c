/* Clocks, power, temperature and health: those of a card that idles in good order. */

#include "faults.h"
#include "node.h"

#define IDLE_TEMPERATURE_C 34u
#define SLOWDOWN_TEMPERATURE_C 87u
#define SHUTDOWN_TEMPERATURE_C 92u
#define VIDEO_CLOCK_SHARE 9u /* tenths of the SM clock */

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(clock != NULL && type < NVML_CLOCK_COUNT);
  *clock = type == NVML_CLOCK_MEM     ? card->memory_clock_mhz
           : type == NVML_CLOCK_VIDEO ? card->sm_clock_mhz * VIDEO_CLOCK_SHARE / 10u
                                      : card->sm_clock_mhz;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *clock) {
  TRY(nvmlDeviceGetMaxClockInfo(device, type, clock));
  const uint32_t forced = sim_faults_read(node_store(), device->card).sm_clock_mhz;
  if (forced != 0 && (type == NVML_CLOCK_GRAPHICS || type == NVML_CLOCK_SM)) *clock = forced;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, nvmlClockType_t clockType, nvmlClockId_t clockId,
                                unsigned int *clockMHz) {
  NEED(clockId < NVML_CLOCK_ID_COUNT);
  if (clockId == NVML_CLOCK_ID_CURRENT) return nvmlDeviceGetClockInfo(device, clockType, clockMHz);
  return nvmlDeviceGetMaxClockInfo(device, clockType, clockMHz);
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *clocksEventReasons) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(clocksEventReasons != NULL);
  const uint64_t forced = sim_faults_read(node_store(), device->card).throttle;
  *clocksEventReasons = forced != 0 ? forced : nvmlClocksEventReasonGpuIdle;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t device, nvmlPstates_t *pState) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(pState != NULL);
  *pState = NVML_PSTATE_0;
  return NVML_SUCCESS;
}

/* ---- power ------------------------------------------------------------------------------------------------------- */

static nvmlReturn_t power_limit(nvmlDevice_t device, unsigned int divisor, unsigned int *milliwatts) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(milliwatts != NULL);
  *milliwatts = card->power_limit_mw / divisor;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int *limit) {
  return power_limit(device, 1, limit);
}

nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, unsigned int *defaultLimit) {
  return power_limit(device, 1, defaultLimit);
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *limit) {
  return power_limit(device, 1, limit);
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *minLimit,
                                                          unsigned int *maxLimit) {
  TRY(power_limit(device, 2, minLimit));
  return power_limit(device, 1, maxLimit);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power) {
  TRY(power_limit(device, 6, power));
  const uint32_t forced = sim_faults_read(node_store(), device->card).power_mw;
  if (forced != 0) *power = forced;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(mode != NULL);
  *mode = NVML_FEATURE_ENABLED;
  return NVML_SUCCESS;
}

/* ---- temperature ------------------------------------------------------------------------------------------------- */

static nvmlReturn_t read_sensor(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *degrees) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(degrees != NULL && sensor == NVML_TEMPERATURE_GPU);
  const uint32_t forced = sim_faults_read(node_store(), device->card).temperature_c;
  *degrees = forced != 0 ? forced : IDLE_TEMPERATURE_C;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensorType, unsigned int *temp) {
  return read_sensor(device, sensorType, temp);
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
  unsigned int degrees;
  NEED(temperature != NULL);
  if (temperature->version != nvmlTemperature_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  TRY(read_sensor(device, temperature->sensorType, &degrees));
  temperature->temperature = (int)degrees;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, nvmlTemperatureThresholds_t thresholdType,
                                               unsigned int *temp) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(temp != NULL && thresholdType < NVML_TEMPERATURE_THRESHOLD_COUNT);
  if (thresholdType == NVML_TEMPERATURE_THRESHOLD_SHUTDOWN)
    *temp = SHUTDOWN_TEMPERATURE_C;
  else if (thresholdType == NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    *temp = SLOWDOWN_TEMPERATURE_C;
  else
    return NVML_ERROR_NOT_SUPPORTED;
  return NVML_SUCCESS;
}

/* ---- modes ------------------------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(mode != NULL);
  *mode = NVML_FEATURE_ENABLED;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(mode != NULL);
  *mode = NVML_COMPUTEMODE_DEFAULT;
  return NVML_SUCCESS;
}

static nvmlReturn_t disabled(nvmlDevice_t device, nvmlEnableState_t *state) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(state != NULL);
  *state = NVML_FEATURE_DISABLED;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, nvmlEnableState_t *display) {
  return disabled(device, display);
}

nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, nvmlEnableState_t *isActive) {
  return disabled(device, isActive);
}

nvmlReturn_t nvmlDeviceGetVirtualizationMode(nvmlDevice_t device, nvmlGpuVirtualizationMode_t *pVirtualMode) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(pVirtualMode != NULL);
  *pVirtualMode = NVML_GPU_VIRTUALIZATION_MODE_NONE;
  return NVML_SUCCESS;
}

/* ---- ECC --------------------------------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(current != NULL && pending != NULL);
  if (card->ecc_supported == 0) return NVML_ERROR_NOT_SUPPORTED;
  *current = NVML_FEATURE_ENABLED;
  *pending = NVML_FEATURE_ENABLED;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDefaultEccMode(nvmlDevice_t device, nvmlEnableState_t *defaultMode) {
  nvmlEnableState_t pending;
  return nvmlDeviceGetEccMode(device, defaultMode, &pending);
}
