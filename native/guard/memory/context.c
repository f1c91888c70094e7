/* The end of a context is the end of its memory. */
#include "admit.h"
#include "driver.h"
#include "gate.h"
#include "limiter.h"
#include "pool.h"

typedef CUresult destroy_fn(CUcontext context);
typedef CUresult primary_fn(CUdevice device);

static CUresult destroy(destroy_fn *real, CUcontext context) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  CUdevice device = 0;
  bool known = limited && device_of_context(context, &device);
  CUresult result = real(context);
  if (!limited || result != CUDA_SUCCESS) return result;
  admit_refund_owned((uintptr_t)context);
  if (known) pool_context_ended(device);
  compute_forget_context(context);
  return result;
}

static bool is_active(CUdevice device) {
  cuDevicePrimaryCtxGetState_fn *state = DRIVER(cuDevicePrimaryCtxGetState);
  unsigned int flags;
  int active = 0;
  return state != NULL && state(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

/* The device's primary context; asking for it does not create one, and leaves its references as they were. */
static CUcontext primary_of(CUdevice device) {
  cuDevicePrimaryCtxRetain_fn *retain = DRIVER(cuDevicePrimaryCtxRetain);
  primary_fn *release = REAL(cuDevicePrimaryCtxRelease_v2);
  if (release == NULL) release = REAL(cuDevicePrimaryCtxRelease);
  CUcontext context = NULL;
  if (retain == NULL || release == NULL || !is_active(device) || retain(&context, device) != CUDA_SUCCESS) return NULL;
  (void)release(device);
  return context;
}

/* Release and reset: memory dies when the primary context is no longer active afterwards. */
static CUresult leave_primary(primary_fn *real, CUdevice device) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  if (!limited) return real(device);
  CUcontext primary = primary_of(device);
  CUresult result = real(device);
  if (result == CUDA_SUCCESS && primary != NULL && !is_active(device)) {
    admit_refund_owned((uintptr_t)primary);
    pool_context_ended(device);
    compute_forget_context(primary);
  }
  return result;
}

GUARD_EXPORT CUresult cuCtxDestroy(CUcontext context) { return destroy(REAL(cuCtxDestroy), context); }

GUARD_EXPORT CUresult cuCtxDestroy_v2(CUcontext context) { return destroy(REAL(cuCtxDestroy_v2), context); }

GUARD_EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  return leave_primary(REAL(cuDevicePrimaryCtxRelease), device);
}

GUARD_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return leave_primary(REAL(cuDevicePrimaryCtxRelease_v2), device);
}

GUARD_EXPORT CUresult cuDevicePrimaryCtxReset(CUdevice device) {
  return leave_primary(REAL(cuDevicePrimaryCtxReset), device);
}

GUARD_EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return leave_primary(REAL(cuDevicePrimaryCtxReset_v2), device);
}
