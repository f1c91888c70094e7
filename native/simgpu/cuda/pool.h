/* Memory pools of stream-ordered allocation. */
#ifndef SIMGPU_CUDA_POOL_H
#define SIMGPU_CUDA_POOL_H

#include "driver.h"
#include "object.h"

/* Adds to what is allocated from the pool. */
void pool_count(CUmemoryPool pool, int64_t bytes);

/* The device's current pool. */
CUresult pool_current(CUdevice ordinal, CUmemoryPool *pool);

#endif
