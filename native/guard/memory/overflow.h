/* Memory beyond a share's part of the card: managed memory that lives in host memory and that the device reaches there.
 *
 * What does not fit in a share may become managed memory where the share allows it (managed_limit_bytes).  It prefers to stay with the
 * host, so it takes nothing of the card; programs pay with the bus instead of with an error. */
#ifndef GUARD_OVERFLOW_H
#define GUARD_OVERFLOW_H

#include "cuda_api.h"

/* Serves a request that device memory of the share had no room for.  CUDA_ERROR_OUT_OF_MEMORY where that is not allowed or there is no
 * room either; counts the refusal. */
CUresult overflow_allocate(CUdeviceptr *pointer, size_t bytes, CUdevice device);

#endif
