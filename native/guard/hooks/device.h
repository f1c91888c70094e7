/* Which device a call is about, and which shares that device has here.
 *
 * Devices are known by UUID: ordinals differ between CUDA, NVML and processes.  Within one process a CUDA ordinal is stable, so
 * the answer for an ordinal is kept.
 */
#ifndef GUARD_DEVICE_H
#define GUARD_DEVICE_H

#include <stdbool.h>

#include "cuda_api.h"
#include "share.h"

struct device_place {
  CUdevice device;
  uint64_t owner; /* what memory allocated there dies with: a context, or 0: none */
};

/* First use of the process, or of a forked child. */
void device_reset(void);

/* The current context and its device; false without a context. */
bool device_current(struct device_place *out);
/* The device of any context. */
bool device_of_context(CUcontext context, CUdevice *out);
/* Where memory ordered on this stream comes to lie. */
bool device_of_stream(CUstream stream, struct device_place *out);

/* The device's UUID as NVML prints it; false when the driver does not tell. */
bool device_uuid(CUdevice device, char text[SHARE_UUID_TEXT]);
/* The shares of a device; false when the driver does not tell who it is. */
bool device_shares(CUdevice device, share_set *out);
bool device_shares_nvml(nvmlDevice_t device, share_set *out);

#endif
