#include "context.h"

#include <stdlib.h>

#include "capture.h"
#include "faults.h"
#include "limit.h"
#include "memory.h"
#include "mps.h"
#include "pool.h"
#include "queue.h"

#define MOST_CONTEXTS 256
#define SCHEDULING_FLAGS                                                                      \
  (CU_CTX_SCHED_MASK | CU_CTX_MAP_HOST | CU_CTX_LMEM_RESIZE_TO_MAX | CU_CTX_COREDUMP_ENABLE | \
   CU_CTX_USER_COREDUMP_ENABLE | CU_CTX_SYNC_MEMOPS)

typedef struct context_stack {
  unsigned int depth;
  CUcontext contexts[MOST_CONTEXTS];
} context_stack;

/* One word of the thread's static storage, reached without a call: launches come here. */
static __thread context_stack *stack __attribute__((tls_model("initial-exec")));
static pthread_key_t stack_key; /* frees a thread's stack at its end */
static pthread_once_t stack_once = PTHREAD_ONCE_INIT;

static void make_key(void) { pthread_key_create(&stack_key, free); }

/* The thread's stack, made at its first use; NULL when out of memory. */
static context_stack *own_stack(void) {
  if (stack == NULL) {
    pthread_once(&stack_once, make_key);
    stack = calloc(1, sizeof *stack);
    pthread_setspecific(stack_key, stack);
  }
  return stack;
}

static CUcontext top(void) { return stack != NULL && stack->depth > 0 ? stack->contexts[stack->depth - 1] : NULL; }

uint32_t context_card(CUcontext context) { return the_driver.devices[context->ordinal].card; }

static CUresult check(CUcontext context) {
  if (context == NULL) return CUDA_ERROR_INVALID_CONTEXT;
  if (!object_is(context, OBJECT_CONTEXT) || !context->active) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  return CUDA_SUCCESS;
}

CUresult device_sound(CUdevice ordinal) {
  uint32_t card = the_driver.devices[ordinal].card;
  TRY(mps_sound());
  return sim_session_intact(&the_driver.session) ? (CUresult)sim_fault_of(&the_driver.session, card)
                                                 : CUDA_ERROR_UNKNOWN;
}

CUresult context_current(CUcontext *current) {
  TRY(driver_ready());
  *current = top();
  return check(*current);
}

CUresult context_or_current(CUcontext context, CUcontext *found) {
  if (context == NULL) return context_current(found);
  TRY(driver_ready());
  if (!object_is(context, OBJECT_CONTEXT)) return CUDA_ERROR_INVALID_CONTEXT;
  *found = context;
  return check(context);
}

static CUresult activate(CUcontext context) {
  if (context->active) return CUDA_SUCCESS;
  if (sim_faults_read(&the_driver.session.store, context_card(context)).presence != SIM_PRESENT)
    return CUDA_ERROR_DEVICE_UNAVAILABLE;
  TRY(device_sound(context->ordinal));
  uint64_t overhead = sim_context_overhead(&the_driver.session, context_card(context));
  if (overhead > 0) TRY(driver_error(sim_charge(&the_driver.session, context_card(context), overhead)));
  context->overhead_bytes = overhead;
  context->active = true;
  context->life++;
  limits_reset(context);
  sim_count_context(&the_driver.session, context_card(context), 1);
  return CUDA_SUCCESS;
}

static void deactivate(CUcontext context) {
  if (!context->active) return;
  queue_wait_context(context);
  memory_release_context(context);
  if (context->primary) pool_release_unused(context->ordinal);
  if (context->overhead_bytes > 0) sim_discharge(&the_driver.session, context_card(context), context->overhead_bytes);
  context->overhead_bytes = 0;
  context->active = false;
  context->peers = 0;
  sim_count_context(&the_driver.session, context_card(context), -1);
}

static CUresult make(CUdevice ordinal, unsigned int flags, bool primary, CUcontext *made) {
  CUcontext context = object_new(OBJECT_CONTEXT, sizeof *context);
  if (context == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  context->ordinal = ordinal;
  context->flags = flags;
  context->primary = primary;
  CUresult result = activate(context);
  if (result != CUDA_SUCCESS) {
    object_delete(context);
    return result;
  }
  *made = context;
  return CUDA_SUCCESS;
}

static CUresult push(CUcontext context) {
  context_stack *own = own_stack();
  if (own == NULL || own->depth == MOST_CONTEXTS) return CUDA_ERROR_OUT_OF_MEMORY;
  own->contexts[own->depth++] = context;
  return CUDA_SUCCESS;
}

/* ---- primary contexts -------------------------------------------------------------------------------------------- */

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev) {
  gpu *found;
  NEED(pctx != NULL);
  TRY(driver_device(dev, &found));
  pthread_mutex_lock(&the_driver.mutex);
  CUresult result = found->primary == NULL ? make(dev, found->primary_flags, true, &found->primary) : CUDA_SUCCESS;
  if (result == CUDA_SUCCESS) result = activate(found->primary);
  if (result == CUDA_SUCCESS) {
    found->primary_references++;
    found->primary->flags = found->primary_flags;
    *pctx = found->primary;
  }
  pthread_mutex_unlock(&the_driver.mutex);
  return result;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
  gpu *found;
  TRY(driver_device(dev, &found));
  pthread_mutex_lock(&the_driver.mutex);
  bool held = found->primary_references > 0;
  if (held && --found->primary_references == 0) deactivate(found->primary);
  pthread_mutex_unlock(&the_driver.mutex);
  return held ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) {
  gpu *found;
  TRY(driver_device(dev, &found));
  pthread_mutex_lock(&the_driver.mutex);
  if (found->primary != NULL) deactivate(found->primary);
  pthread_mutex_unlock(&the_driver.mutex);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags) {
  gpu *found;
  TRY(driver_device(dev, &found));
  NEED((flags & ~(unsigned int)SCHEDULING_FLAGS) == 0);
  pthread_mutex_lock(&the_driver.mutex);
  found->primary_flags = flags;
  if (found->primary != NULL) found->primary->flags = flags;
  pthread_mutex_unlock(&the_driver.mutex);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active) {
  gpu *found;
  NEED(flags != NULL && active != NULL);
  TRY(driver_device(dev, &found));
  pthread_mutex_lock(&the_driver.mutex);
  *flags = found->primary_flags;
  *active = found->primary != NULL && found->primary->active;
  pthread_mutex_unlock(&the_driver.mutex);
  return CUDA_SUCCESS;
}

/* ---- own contexts ------------------------------------------------------------------------------------------------ */

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev) {
  gpu *found;
  NEED(pctx != NULL && (flags & ~(unsigned int)SCHEDULING_FLAGS) == 0);
  TRY(driver_device(dev, &found));
  TRY(make(dev, flags, false, pctx));
  return push(*pctx);
}

CUresult cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams, unsigned int flags,
                        CUdevice dev) {
  if (paramsArray != NULL || numParams != 0) return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  return cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags, CUdevice dev) {
  if (ctxCreateParams != NULL && ctxCreateParams->numExecAffinityParams != 0)
    return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  return cuCtxCreate_v2(pctx, flags, dev);
}

CUresult cuCtxDestroy_v2(CUcontext ctx) {
  TRY(driver_ready());
  if (!object_is(ctx, OBJECT_CONTEXT)) return CUDA_ERROR_INVALID_CONTEXT;
  if (ctx->primary) return CUDA_ERROR_INVALID_CONTEXT;
  if (top() == ctx) stack->depth--;
  deactivate(ctx);
  object_delete(ctx);
  return CUDA_SUCCESS;
}

CUresult cuCtxAttach(CUcontext *pctx, unsigned int flags) {
  NEED(pctx != NULL && flags == 0);
  return context_current(pctx);
}

CUresult cuCtxDetach(CUcontext ctx) {
  CUcontext current;
  TRY(context_current(&current));
  return ctx == current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

/* ---- the stack --------------------------------------------------------------------------------------------------- */

/* A primary context that was reset comes back to life by being used. */
static CUresult usable(CUcontext context) {
  if (!object_is(context, OBJECT_CONTEXT)) return CUDA_ERROR_INVALID_CONTEXT;
  if (context->active || !context->primary) return CUDA_SUCCESS;
  pthread_mutex_lock(&the_driver.mutex);
  CUresult result =
      the_driver.devices[context->ordinal].primary_references > 0 ? activate(context) : CUDA_ERROR_CONTEXT_IS_DESTROYED;
  pthread_mutex_unlock(&the_driver.mutex);
  return result;
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx) {
  TRY(driver_ready());
  TRY(usable(ctx));
  return push(ctx);
}

CUresult cuCtxPopCurrent_v2(CUcontext *pctx) {
  TRY(driver_ready());
  if (stack == NULL || stack->depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
  stack->depth--;
  if (pctx != NULL) *pctx = stack->contexts[stack->depth];
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext ctx) {
  TRY(driver_ready());
  if (ctx == NULL) {
    if (stack != NULL && stack->depth > 0) stack->depth--;
    return CUDA_SUCCESS;
  }
  TRY(usable(ctx));
  if (stack == NULL || stack->depth == 0) return push(ctx);
  stack->contexts[stack->depth - 1] = ctx;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *pctx) {
  NEED(pctx != NULL);
  TRY(driver_ready());
  *pctx = top();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  CUcontext current;
  NEED(device != NULL);
  TRY(context_current(&current));
  *device = current->ordinal;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext ctx) {
  NEED(device != NULL);
  TRY(context_or_current(ctx, &ctx));
  *device = ctx->ordinal;
  return CUDA_SUCCESS;
}

/* ---- properties -------------------------------------------------------------------------------------------------- */

CUresult cuCtxGetFlags(unsigned int *flags) {
  CUcontext current;
  NEED(flags != NULL);
  TRY(context_current(&current));
  *flags = current->flags;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned int flags) {
  CUcontext current;
  TRY(context_current(&current));
  NEED((flags & ~(unsigned int)SCHEDULING_FLAGS) == 0);
  current->flags = flags;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext ctx, unsigned long long *ctxId) {
  NEED(ctxId != NULL);
  TRY(context_or_current(ctx, &ctx));
  *ctxId = ctx->object.id;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version) {
  NEED(version != NULL);
  TRY(context_or_current(ctx, &ctx));
  *version = 3020;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void) { return cuCtxSynchronize_v2(NULL); }

CUresult cuCtxSynchronize_v2(CUcontext ctx) {
  TRY(context_or_current(ctx, &ctx));
  TRY(capture_refuse_context(ctx));
  TRY(queue_wait_context(ctx));
  pool_synchronized();
  return device_sound(ctx->ordinal);
}

CUresult cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority) {
  CUcontext current;
  TRY(context_current(&current));
  if (leastPriority != NULL) *leastPriority = 0;
  if (greatestPriority != NULL) *greatestPriority = -5;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *pconfig) {
  CUcontext current;
  NEED(pconfig != NULL);
  TRY(context_current(&current));
  *pconfig = current->cache;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
  CUcontext current;
  TRY(context_current(&current));
  current->cache = config;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig *pConfig) {
  CUcontext current;
  NEED(pConfig != NULL);
  TRY(context_current(&current));
  *pConfig = current->shared_config;
  return CUDA_SUCCESS;
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) {
  CUcontext current;
  TRY(context_current(&current));
  current->shared_config = config;
  return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache(void) { return cuCtxSynchronize(); }
