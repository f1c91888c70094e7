/* Contexts: what they take when they begin, and that the end of a context is the end of its memory. */
#include "admit.h"
#include "driver.h"
#include "flight.h"
#include "gate.h"
#include "graph.h"
#include "limiter.h"
#include "overhead.h"
#include "pool.h"

typedef CUresult destroy_fn(CUcontext context);
typedef CUresult primary_fn(CUdevice device);

/* ---- the end ---- */

/* The context's name in the ledger has to be gone before the driver gives it to another one. */
static uint64_t forget(CUcontext context) {
  ledger_entry entry;
  return ledger_take(LEDGER_CONTEXT, (uintptr_t)context, &entry) ? entry.bytes : 0;
}

/* A name that is remembered already: threads met at a primary context, which is one and was charged to each. */
static void remember(CUcontext context, CUdevice device, uint64_t bytes) {
  ledger_entry replaced, entry = {.key = (uintptr_t)context, .bytes = bytes, .kind = LEDGER_CONTEXT};
  if (bytes == 0 || !ledger_put(&entry, &replaced))
    return; /* without an entry its charge stays until the process ends */
  if (replaced.kind != LEDGER_NONE) overhead_context_ended(device, replaced.bytes);
}

static CUresult destroy(destroy_fn *real, CUcontext context) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  FLIGHT;
  CUdevice device = 0;
  if (!limited) return real(context);
  bool known = device_of_context(context, &device);
  uint64_t estate = admit_estate((uintptr_t)context), taken = forget(context);
  CUresult result = real(context);
  admit_estate_settle(estate, (uintptr_t)context, result == CUDA_SUCCESS);
  if (result != CUDA_SUCCESS) {
    remember(context, device, taken);
  } else {
    compute_forget_context(context);
    if (known) pool_context_ended(device);
    if (known) graph_context_ended(device);
    if (known) overhead_context_ended(device, taken);
  }
  return result;
}

static bool is_active(CUdevice device) {
  cuDevicePrimaryCtxGetState_fn *state = DRIVER(cuDevicePrimaryCtxGetState);
  unsigned int flags;
  int active = 0;
  return state != NULL && state(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

static primary_fn *release_primary(void) {
  primary_fn *release = REAL(cuDevicePrimaryCtxRelease_v2);
  return release != NULL ? release : REAL(cuDevicePrimaryCtxRelease);
}

/* The device's primary context; asking for it does not create one, and leaves its references as they were. */
static CUcontext primary_of(CUdevice device) {
  __typeof__(&cuDevicePrimaryCtxRetain) retain = REAL(cuDevicePrimaryCtxRetain);
  primary_fn *release = release_primary();
  CUcontext context = NULL;
  if (retain == NULL || release == NULL || !is_active(device) || retain(&context, device) != CUDA_SUCCESS) return NULL;
  (void)release(device);
  return context;
}

/* Release and reset: memory dies when the primary context is no longer active afterwards. */
static CUresult leave_primary(primary_fn *real, CUdevice device) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  FLIGHT;
  if (!limited) return real(device);
  CUcontext primary = primary_of(device);
  if (primary == NULL) return real(device);
  uint64_t estate = admit_estate((uintptr_t)primary), taken = forget(primary);
  CUresult result = real(device);
  bool ended = result == CUDA_SUCCESS && !is_active(device);
  admit_estate_settle(estate, (uintptr_t)primary, ended);
  if (ended) {
    pool_context_ended(device);
    graph_context_ended(device);
    compute_forget_context(primary);
    overhead_context_ended(device, taken);
  } else {
    remember(primary, device, taken);
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

/* ---- the beginning ---- */

GUARD_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  BEGIN_HOOK(cuDevicePrimaryCtxRetain, CUDA_ERROR_NOT_INITIALIZED);
  struct overhead_order order;
  if (!limited || context == NULL || is_active(device)) return real(context, device);
  overhead_expect(&order, device);
  FLIGHT;
  CUresult result = overhead_admit(&order);
  if (result != CUDA_SUCCESS) return result;
  result = real(context, device);
  primary_fn *release = release_primary();
  if (overhead_settle(&order, result) || release == NULL) {
    if (result == CUDA_SUCCESS) remember(*context, device, order.taken);
    return result;
  }
  (void)release(device);
  overhead_context_ended(device, order.taken);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* After the driver was asked for a context of its own: it stays, or goes when it does not fit. */
static CUresult settle(struct overhead_order *order, CUresult result, const CUcontext *context) {
  destroy_fn *release = REAL(cuCtxDestroy_v2);
  if (overhead_settle(order, result) || release == NULL) {
    if (result == CUDA_SUCCESS) remember(*context, order->device, order->taken);
    return result;
  }
  (void)release(*context);
  overhead_context_ended(order->device, order->taken);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

GUARD_EXPORT CUresult cuCtxCreate(CUcontext *context, unsigned int flags, CUdevice device) {
  BEGIN_HOOK(cuCtxCreate, CUDA_ERROR_NOT_INITIALIZED);
  struct overhead_order order;
  if (!limited || context == NULL) return real(context, flags, device);
  overhead_expect(&order, device);
  FLIGHT;
  CUresult result = overhead_admit(&order);
  return result != CUDA_SUCCESS ? result : settle(&order, real(context, flags, device), context);
}

GUARD_EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device) {
  BEGIN_HOOK(cuCtxCreate_v2, CUDA_ERROR_NOT_INITIALIZED);
  struct overhead_order order;
  if (!limited || context == NULL) return real(context, flags, device);
  overhead_expect(&order, device);
  FLIGHT;
  CUresult result = overhead_admit(&order);
  return result != CUDA_SUCCESS ? result : settle(&order, real(context, flags, device), context);
}

GUARD_EXPORT CUresult cuCtxCreate_v3(CUcontext *context, CUexecAffinityParam *params, int count, unsigned int flags,
                                     CUdevice device) {
  BEGIN_HOOK(cuCtxCreate_v3, CUDA_ERROR_NOT_INITIALIZED);
  struct overhead_order order;
  if (!limited || context == NULL) return real(context, params, count, flags, device);
  overhead_expect(&order, device);
  FLIGHT;
  CUresult result = overhead_admit(&order);
  return result != CUDA_SUCCESS ? result : settle(&order, real(context, params, count, flags, device), context);
}

GUARD_EXPORT CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *params, unsigned int flags,
                                     CUdevice device) {
  BEGIN_HOOK(cuCtxCreate_v4, CUDA_ERROR_NOT_INITIALIZED);
  struct overhead_order order;
  if (!limited || context == NULL) return real(context, params, flags, device);
  overhead_expect(&order, device);
  FLIGHT;
  CUresult result = overhead_admit(&order);
  return result != CUDA_SUCCESS ? result : settle(&order, real(context, params, flags, device), context);
}
