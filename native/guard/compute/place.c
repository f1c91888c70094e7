#include "place.h"

#include <string.h>

#include "bucket.h"
#include "device.h"
#include "driver.h"
#include "lock.h"
#include "prim.h"

enum { PLACES = 32, SPECIAL_STREAMS = 2 };
#define JOIN_AGAIN_NS 100000000u

static struct compute_place places[PLACES];
static guard_lock table_lock;

void place_reset(void) {
  table_lock.word = 0;
  for (int i = 0; i < PLACES; i++) __atomic_store_n(&places[i].context, NULL, __ATOMIC_RELAXED);
}

static CUcontext context_in(const struct compute_place *place) {
  return __atomic_load_n(&place->context, __ATOMIC_ACQUIRE);
}

static void join(struct compute_place *place) {
  hami_usage_slot *slot = NULL;
  hami_usage *usage = share_usage(place_share(place), &slot);
  __atomic_store_n(&place->slot, slot, __ATOMIC_RELAXED);
  __atomic_store_n(&place->header, usage != NULL ? &usage->header : &place->own, __ATOMIC_RELAXED);
}

void place_join(struct compute_place *place, uint64_t coarse_ns) {
  uint64_t joined = __atomic_load_n(&place->joined_ns, __ATOMIC_RELAXED);
  if (coarse_ns - joined < JOIN_AGAIN_NS) return;
  if (!__atomic_compare_exchange_n(&place->joined_ns, &joined, coarse_ns, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    return;
  join(place);
}

void place_pick(struct compute_place *place) {
  share_set shares = place->shares;
  if ((shares & (shares - 1)) == 0) return;
  for (; shares != 0; shares &= shares - 1) {
    unsigned share = (unsigned)__builtin_ctzll(shares);
    hami_usage_slot *slot;
    bool granted;
    uint32_t permille = share_compute_permille(share, &granted);
    hami_usage *usage = share_usage(share, &slot);
    if (usage == NULL) continue;
    if (permille != 0) bucket_fill(&usage->header, bucket_frame(prim_monotonic_ns(), place->phase_ns), permille);
    if (permille != 0 && bucket_level(&usage->header, permille) <= 0) continue;
    __atomic_store_n(&place->share, share, __ATOMIC_RELAXED);
    join(place);
    return;
  }
}

static struct compute_place *find(CUcontext context) {
  for (int i = 0; i < PLACES; i++) {
    if (context_in(&places[i]) == context) return &places[i];
  }
  return NULL;
}

/* With the table's lock, which is not held across calls of the driver. */
static struct compute_place *settle(CUcontext context, share_set shares) {
  struct compute_place *place = find(context);
  if (place != NULL) return place;
  place = find(NULL);
  if (place == NULL) return NULL;
  memset(place, 0, sizeof *place);
  place->shares = shares;
  place->share = (unsigned)__builtin_ctzll(shares);
  place->phase_ns = share_phase(BUCKET_FRAME_NS);
  place->header = &place->own;
  place->joined_ns = prim_coarse_ns();
  meter_init(&place->meter, prim_monotonic_ns());
  join(place);
  __atomic_store_n(&place->context, context, __ATOMIC_RELEASE);
  return place;
}

static struct compute_place *add(CUcontext context, CUdevice device) {
  share_set shares = 0;
  if (!device_shares(device, &shares) || shares == 0) return NULL;
  GUARD_HOLD(&table_lock);
  return settle(context, shares);
}

static struct compute_place *place_current(struct compute_place *known) {
  cuCtxGetCurrent_fn *current = DRIVER(cuCtxGetCurrent);
  CUcontext context = NULL;
  if (current == NULL || current(&context) != CUDA_SUCCESS || context == NULL) return NULL;
  if (__builtin_expect(known != NULL && context_in(known) == context, 1)) return known;
  struct compute_place *place = find(context);
  struct device_place where;
  return place != NULL || !device_current(&where) ? place : add(context, where.device);
}

struct compute_place *place_of(CUstream stream, struct compute_place *known) {
  if (__builtin_expect((uintptr_t)stream <= SPECIAL_STREAMS || share_count() < 2, 1)) return place_current(known);
  cuStreamGetCtx_fn *context_of = DRIVER(cuStreamGetCtx);
  CUcontext context = NULL;
  if (context_of == NULL || context_of(stream, &context) != CUDA_SUCCESS || context == NULL)
    return place_current(known);
  if (known != NULL && context_in(known) == context) return known;
  struct compute_place *place = find(context);
  struct device_place where;
  return place != NULL || !device_of_stream(stream, &where) ? place : add(context, where.device);
}

void place_forget(CUcontext context) {
  GUARD_HOLD(&table_lock);
  struct compute_place *place = find(context);
  if (place != NULL) __atomic_store_n(&place->context, NULL, __ATOMIC_RELEASE);
}
