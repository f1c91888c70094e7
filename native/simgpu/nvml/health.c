/* Memory errors: ECC counts, remapped rows, retired pages, and the fields that tell of them. */
#include <string.h>

#include "faults.h"
#include "node.h"

static nvmlReturn_t ecc_card(nvmlDevice_t device, sim_faults *faults) {
  const sim_card *card;
  TRY(node_card(device, &card));
  if (card->ecc_supported == 0) return NVML_ERROR_NOT_SUPPORTED;
  *faults = sim_faults_read(node_store(), device->card);
  return NVML_SUCCESS;
}

static uint64_t ecc_count(const sim_faults *faults, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter) {
  const uint64_t *counts = counter == NVML_VOLATILE_ECC ? faults->ecc_volatile : faults->ecc_aggregate;
  return counts[type == NVML_MEMORY_ERROR_TYPE_CORRECTED ? 0 : 1];
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t errorType,
                                         nvmlEccCounterType_t counterType, unsigned long long *eccCounts) {
  sim_faults faults;
  NEED(errorType < NVML_MEMORY_ERROR_TYPE_COUNT && counterType < NVML_ECC_COUNTER_TYPE_COUNT && eccCounts != NULL);
  TRY(ecc_card(device, &faults));
  *eccCounts = ecc_count(&faults, errorType, counterType);
  return NVML_SUCCESS;
}

/* All errors are the device memory's. */
nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t errorType,
                                             nvmlEccCounterType_t counterType, nvmlMemoryLocation_t locationType,
                                             unsigned long long *count) {
  NEED(locationType < NVML_MEMORY_LOCATION_COUNT);
  TRY(nvmlDeviceGetTotalEccErrors(device, errorType, counterType, count));
  if (locationType != NVML_MEMORY_LOCATION_DRAM) *count = 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t errorType,
                                            nvmlEccCounterType_t counterType, nvmlEccErrorCounts_t *eccCounts) {
  NEED(eccCounts != NULL);
  memset(eccCounts, 0, sizeof *eccCounts);
  return nvmlDeviceGetTotalEccErrors(device, errorType, counterType, &eccCounts->deviceMemory);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrRows, unsigned int *uncRows,
                                       unsigned int *isPending, unsigned int *failureOccurred) {
  const sim_card *card;
  sim_faults faults;
  NEED(corrRows != NULL && uncRows != NULL && isPending != NULL && failureOccurred != NULL);
  TRY(node_card(device, &card));
  /* From Ampere's A100 on; before it pages were retired. */
  if (card->mig_supported == 0) return NVML_ERROR_NOT_SUPPORTED;
  TRY(ecc_card(device, &faults));
  *corrRows = faults.remapped[0];
  *uncRows = faults.remapped[1];
  *isPending = faults.remap_pending;
  *failureOccurred = faults.remap_failed;
  return NVML_SUCCESS;
}

/* Page addresses are made up: one page after the other, from a start for each cause. */
nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *pageCount,
                                          unsigned long long *addresses, unsigned long long *timestamps) {
  sim_faults faults;
  NEED(pageCount != NULL && cause < NVML_PAGE_RETIREMENT_CAUSE_COUNT);
  TRY(ecc_card(device, &faults));
  const unsigned int room = *pageCount;
  const unsigned int kind = cause == NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS ? 0 : 1;
  *pageCount = faults.retired[kind] <= SIM_RETIRED_PAGES ? faults.retired[kind] : SIM_RETIRED_PAGES;
  if (*pageCount > room || (*pageCount > 0 && addresses == NULL)) return NVML_ERROR_INSUFFICIENT_SIZE;
  for (unsigned int i = 0; i < *pageCount; i++) {
    addresses[i] = (kind + 1ull) << 32 | (unsigned long long)i << 16;
    if (timestamps != NULL) timestamps[i] = 0;
  }
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *pageCount,
                                       unsigned long long *addresses) {
  return nvmlDeviceGetRetiredPages_v2(device, cause, pageCount, addresses, NULL);
}

nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, nvmlEnableState_t *isPending) {
  sim_faults faults;
  NEED(isPending != NULL);
  TRY(ecc_card(device, &faults));
  *isPending = faults.remap_pending != 0 ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
  return NVML_SUCCESS;
}

/* ---- fields ------------------------------------------------------------------------------------------------------ */

static nvmlReturn_t field(nvmlDevice_t device, const sim_faults *faults, nvmlFieldValue_t *value) {
  unsigned int power;
  value->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
  switch (value->fieldId) {
    case NVML_FI_DEV_ECC_SBE_VOL_TOTAL: value->value.ullVal = faults->ecc_volatile[0]; return NVML_SUCCESS;
    case NVML_FI_DEV_ECC_DBE_VOL_TOTAL: value->value.ullVal = faults->ecc_volatile[1]; return NVML_SUCCESS;
    case NVML_FI_DEV_ECC_SBE_AGG_TOTAL: value->value.ullVal = faults->ecc_aggregate[0]; return NVML_SUCCESS;
    case NVML_FI_DEV_ECC_DBE_AGG_TOTAL: value->value.ullVal = faults->ecc_aggregate[1]; return NVML_SUCCESS;
    case NVML_FI_DEV_RETIRED_SBE: value->value.ullVal = faults->retired[0]; return NVML_SUCCESS;
    case NVML_FI_DEV_RETIRED_DBE: value->value.ullVal = faults->retired[1]; return NVML_SUCCESS;
    case NVML_FI_DEV_RETIRED_PENDING: value->value.ullVal = faults->remap_pending; return NVML_SUCCESS;
    case NVML_FI_DEV_REMAPPED_COR: value->value.ullVal = faults->remapped[0]; return NVML_SUCCESS;
    case NVML_FI_DEV_REMAPPED_UNC: value->value.ullVal = faults->remapped[1]; return NVML_SUCCESS;
    case NVML_FI_DEV_REMAPPED_PENDING: value->value.ullVal = faults->remap_pending; return NVML_SUCCESS;
    case NVML_FI_DEV_REMAPPED_FAILURE: value->value.ullVal = faults->remap_failed; return NVML_SUCCESS;
    case NVML_FI_DEV_POWER_INSTANT:
    case NVML_FI_DEV_POWER_AVERAGE:
      TRY(nvmlDeviceGetPowerUsage(device, &power));
      value->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
      value->value.uiVal = power;
      return NVML_SUCCESS;
    default: return NVML_ERROR_NOT_SUPPORTED;
  }
}

/* Fields are answered one by one, each with a status of its own. */
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int valuesCount, nvmlFieldValue_t *values) {
  const sim_card *card;
  TRY(node_card(device, &card));
  NEED(values != NULL && valuesCount > 0);
  const sim_faults faults = sim_faults_read(node_store(), device->card);
  for (int i = 0; i < valuesCount; i++) values[i].nvmlReturn = field(device, &faults, &values[i]);
  return NVML_SUCCESS;
}
