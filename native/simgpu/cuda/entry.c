/* How programs find functions, and what errors are called. */
#include <string.h>

#include "driver.h"
#include "table.h"

/* The last ABI that both the driver and the caller know. */
static const procedure *resolve(const char *name, int version, bool *known) {
  size_t low = 0;
  size_t high = PROCEDURE_COUNT;
  int driver_version = 0;
  cuDriverGetVersion(&driver_version);
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (strcmp(PROCEDURES[middle].name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  const procedure *best = NULL;
  *known = false;
  for (; low < PROCEDURE_COUNT && strcmp(PROCEDURES[low].name, name) == 0; low++) {
    if (PROCEDURES[low].cuda_version > driver_version) continue;
    *known = true;
    if (PROCEDURES[low].cuda_version <= version) best = &PROCEDURES[low];
  }
  return best;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *symbolStatus) {
  bool known;
  const cuuint64_t all = CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
  NEED(symbol != NULL && pfn != NULL && (flags & ~all) == 0);
  *pfn = NULL;
  const procedure *found = resolve(symbol, cudaVersion, &known);
  if (symbolStatus != NULL)
    *symbolStatus = found != NULL ? CU_GET_PROC_ADDRESS_SUCCESS
                    : known       ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                  : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  if (found == NULL) return CUDA_ERROR_NOT_FOUND;
  bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0 && found->per_thread != NULL;
  *pfn = per_thread ? found->per_thread : found->function;
  return CUDA_SUCCESS;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, pfn, cudaVersion, flags, NULL);
}

/* There are no undocumented tables here. */
CUresult cuGetExportTable(const void **ppExportTable, const CUuuid *pExportTableId) {
  NEED(ppExportTable != NULL && pExportTableId != NULL);
  *ppExportTable = NULL;
  return CUDA_ERROR_NOT_FOUND;
}

static const error_name *find_error(CUresult error) {
  for (size_t i = 0; i < ERROR_NAME_COUNT; i++)
    if (ERROR_NAMES[i].code == (int)error) return &ERROR_NAMES[i];
  return NULL;
}

CUresult cuGetErrorName(CUresult error, const char **pStr) {
  NEED(pStr != NULL);
  const error_name *found = find_error(error);
  *pStr = found != NULL ? found->name : NULL;
  return found != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **pStr) {
  NEED(pStr != NULL);
  const error_name *found = find_error(error);
  *pStr = found != NULL ? found->text : NULL;
  return found != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Profilers may start and stop; nothing is recorded. */
#pragma GCC visibility push(default)
CUresult cuProfilerStart(void);
CUresult cuProfilerStop(void);
#pragma GCC visibility pop

CUresult cuProfilerStart(void) { return driver_ready(); }

CUresult cuProfilerStop(void) { return driver_ready(); }
