/* What the driver takes of the card for itself: code and variables of modules, and what limits promise to kernels.  A card
 * charges for it if `simctl set --driver-memory on` says so. */
#include "limit.h"

#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards contexts' overhead and limits */

static const size_t DEFAULTS[CU_LIMIT_MAX] = {
    [CU_LIMIT_STACK_SIZE] = 1024,
    [CU_LIMIT_PRINTF_FIFO_SIZE] = 1u << 20,
    [CU_LIMIT_MALLOC_HEAP_SIZE] = 8u << 20,
    [CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2,
    [CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048,
    [CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64,
};

void limits_reset(CUcontext context) { memcpy(context->limits, DEFAULTS, sizeof context->limits); }

static bool alive(const context_cost *cost) {
  return cost->context != NULL && object_is(cost->context, OBJECT_CONTEXT) && cost->context->active &&
         cost->context->life == cost->life;
}

static void discharge_locked(context_cost *cost) {
  if (alive(cost) && cost->bytes > 0) {
    sim_discharge(&the_driver.session, context_card(cost->context), cost->bytes);
    cost->context->overhead_bytes -= cost->bytes;
  }
  cost->context = NULL;
  cost->bytes = 0;
}

static CUresult charge_locked(CUcontext context, uint64_t bytes, context_cost *cost) {
  discharge_locked(cost);
  if (bytes == 0 || !sim_driver_memory(&the_driver.session, context_card(context))) return CUDA_SUCCESS;
  TRY(driver_error(sim_charge(&the_driver.session, context_card(context), bytes)));
  context->overhead_bytes += bytes;
  *cost = (context_cost){.context = context, .life = context->life, .bytes = bytes};
  return CUDA_SUCCESS;
}

CUresult context_charge(CUcontext context, uint64_t bytes, context_cost *cost) {
  pthread_mutex_lock(&mutex);
  CUresult result = charge_locked(context, bytes, cost);
  pthread_mutex_unlock(&mutex);
  return result;
}

void context_discharge(context_cost *cost) {
  pthread_mutex_lock(&mutex);
  discharge_locked(cost);
  pthread_mutex_unlock(&mutex);
}

/* Bytes that a limit takes of the card beyond its default: a stack for each thread that can be resident, or the heap. */
static uint64_t taken_by(const sim_card *card, CUlimit limit, size_t value) {
  uint64_t more = value > DEFAULTS[limit] ? value - DEFAULTS[limit] : 0;
  switch (limit) {
    case CU_LIMIT_STACK_SIZE: return more * card->threads_per_sm * card->sm_count;
    case CU_LIMIT_PRINTF_FIFO_SIZE:
    case CU_LIMIT_MALLOC_HEAP_SIZE: return more;
    default: return 0;
  }
}

static uint64_t taken_by_all(CUcontext context, const size_t limits[CU_LIMIT_MAX]) {
  uint64_t sum = 0;
  for (int limit = 0; limit < (int)CU_LIMIT_MAX; limit++)
    sum += taken_by(&the_driver.devices[context->ordinal].facts, (CUlimit)limit, limits[limit]);
  return sum;
}

CUresult cuCtxGetLimit(size_t *pvalue, CUlimit limit) {
  CUcontext current;
  NEED(pvalue != NULL);
  TRY(context_current(&current));
  if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
  *pvalue = current->limits[limit];
  return CUDA_SUCCESS;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  CUcontext current;
  size_t wanted[CU_LIMIT_MAX];
  TRY(context_current(&current));
  if (limit >= CU_LIMIT_MAX) return CUDA_ERROR_UNSUPPORTED_LIMIT;
  NEED(limit != CU_LIMIT_STACK_SIZE || value <= (512u << 10));
  pthread_mutex_lock(&mutex);
  memcpy(wanted, current->limits, sizeof wanted);
  wanted[limit] = value;
  const context_cost before = current->limit_cost;
  CUresult result = charge_locked(current, taken_by_all(current, wanted), &current->limit_cost);
  if (result == CUDA_SUCCESS)
    memcpy(current->limits, wanted, sizeof wanted);
  else if (charge_locked(current, before.bytes, &current->limit_cost) != CUDA_SUCCESS)
    limits_reset(current); /* another took what was given back for a moment */
  pthread_mutex_unlock(&mutex);
  return result;
}
