/* What the driver takes of a device by itself, for this process: contexts, code, stacks and heaps of kernels, rounding.
 *
 * Only the driver knows, and NVML tells it per process.  What NVML says that this process holds beyond what it was charged for is its
 * overhead, charged to the share like everything else and measured anew whenever something happens that changes it.  Where NVML does not
 * know this process (in most pid namespaces of containers it does not) there is no figure, and nothing is charged.
 */
#ifndef GUARD_OVERHEAD_H
#define GUARD_OVERHEAD_H

#include <stdbool.h>

#include "device.h"

/* First use of the process, or of a forked child. */
void overhead_reset(void);

/* Around the creation of a context: room for what contexts are known to take; the first process of a share finds out, alone. */
struct overhead_order {
  bool active, learning;
  CUdevice device;
  unsigned share;
  uint64_t admitted;
  uint64_t taken; /* by overhead_settle: what the context is charged with */
};
/* CUDA_SUCCESS, or CUDA_ERROR_OUT_OF_MEMORY when a context does not fit. */
CUresult overhead_admit(struct overhead_order *order, CUdevice device);
/* The driver's result; false when it took more than there is room for: the context has to go again. */
bool overhead_settle(struct overhead_order *order, CUresult result);
/* A context is gone that was charged with so much. */
void overhead_context_ended(CUdevice device, uint64_t bytes);
/* After anything else that may have changed it; false as above. */
bool overhead_measure(CUdevice device);
/* The same, at most twice a second, before an allocation is refused. */
void overhead_measure_sometimes(CUdevice device);

#endif
