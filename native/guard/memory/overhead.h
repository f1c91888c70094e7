/* What the driver takes of a device by itself, for this process: contexts, code, stacks and heaps of kernels, rounding.
 *
 * Only the driver knows, and NVML tells it per process.  What NVML says that this process holds beyond what it was charged for is its
 * overhead, charged to the share like everything else and measured anew whenever something happens that changes it.  Where NVML does not
 * tell which process is this one (identity.h) there is no figure: then only contexts are charged, with what the share's others took.
 *
 * Contexts and the rest are charged apart, so that the charge is never below what the driver holds, whatever other threads do meanwhile:
 * - A context is charged with what the share's first one was seen to take, alone: before the driver makes it, and until the driver has
 *   said that it is gone; then with exactly that much less.  No measure lowers it.  One that takes less is charged too much.
 * - The rest is what measures find beyond the contexts' charges.  Other calls are charged before the driver takes and refunded after it
 *   gave back, so a measure among them finds too little and never too much: it may raise the charge.  Contexts that ended since it was
 *   taken are deducted from it, as it may have met them alive.
 * - Lower it goes only by a measure with no other call under way or begun, and no context charged or refunded, from before to after; and
 *   not when other charges alone are more than NVML's figure: they hide how much of it is overhead (managed memory that lies with the
 *   host, what pools have given back unseen).  Where they hide a part only, code may be charged too little until the next measure.
 */
#ifndef GUARD_OVERHEAD_H
#define GUARD_OVERHEAD_H

#include <stdbool.h>

#include "device.h"

/* First use of the process, or of a forked child. */
void overhead_reset(void);

/* Around the creation of a context: charged with what contexts are known to take; the first process of a share finds out, alone. */
struct overhead_order {
  bool active, learning;
  bool beside; /* there was overhead before it */
  CUdevice device;
  nvmlDevice_t handle;
  unsigned share;
  uint64_t taken; /* what the context is charged with */
};
/* Finds out what it will take.  May wait for the thread that learns that, so it comes before our own call counts as under way. */
void overhead_expect(struct overhead_order *order, CUdevice device);
/* CUDA_SUCCESS, or CUDA_ERROR_OUT_OF_MEMORY when a context does not fit. */
CUresult overhead_admit(struct overhead_order *order);
/* The driver's result; false when it took more than there is room for: the context has to go again. */
bool overhead_settle(struct overhead_order *order, CUresult result);
/* A context is gone that was charged with so much. */
void overhead_context_ended(CUdevice device, uint64_t bytes);
/* After anything else that may have changed it; false as above. */
bool overhead_measure(CUdevice device);
/* The same, at most twice a second, before an allocation is refused. */
void overhead_measure_sometimes(CUdevice device);

#endif
