#include "limiter.h"

#include "bucket.h"
#include "capture.h"
#include "events.h"
#include "place.h"
#include "prim.h"
#include "share.h"

#define FIRST_GUESS_NS 200000u
#define LEAST_GUESS_NS 100000u
#define MOST_GUESS_NS 200000000u
#define PORTION_NS 20000u /* what a thread may owe the bucket */
#define MOST_WAIT_NS UINT64_C(35000000000)
#define MOST_LEARNING_NS UINT64_C(2000000000)
#define SHORTEST_NAP_NS 50000u
#define LONGEST_NAP_NS 20000000u

#define OFTEN_NS 4000000u
#define SELDOM_NS 30000000u

enum { MOST_UNKNOWN = 2, UNMEASURED = 64, MOST_COUNTED = 127 };

/* What this thread has launched and not told the others yet. */
struct compute_thread {
  struct compute_place *place;
  uint64_t owed_ns;
  uint64_t tick_ns;
  uint32_t launches;
  uint32_t portion; /* launches without a limit after which it tells */
};

static _Thread_local struct compute_thread self __attribute__((tls_model("initial-exec")));

void compute_reset(void) {
  estimate_reset();
  place_reset();
  capture_reset();
  self = (struct compute_thread){.place = NULL};
}

void compute_forget_context(CUcontext context) {
  self.place = NULL;
  place_forget(context);
}

static void add(uint64_t *field, uint64_t value) { (void)__atomic_fetch_add(field, value, __ATOMIC_RELAXED); }

static void charge(struct compute_place *place, int64_t gpu_ns) {
  hami_usage_header *header = place_header(place);
  hami_usage_slot *slot = place_slot(place);
  bucket_charge(header, gpu_ns);
  add(&header->gpu_time_ns, (uint64_t)gpu_ns);
  if (slot != NULL) add(&slot->gpu_time_ns, (uint64_t)gpu_ns);
}

/* Tells the share what this thread did since it last did so. */
static void flush(struct compute_place *place, uint64_t coarse_ns) {
  hami_usage_slot *slot = place_slot(place);
  if (self.owed_ns != 0) charge(place, (int64_t)self.owed_ns);
  if (slot != NULL) {
    add(&slot->launches_total, self.launches);
    __atomic_store_n(&slot->wanted_at_ns, coarse_ns, __ATOMIC_RELAXED);
  }
  self.owed_ns = 0;
  self.launches = 0;
  self.tick_ns = coarse_ns;
}

static void fill(struct compute_place *place, uint64_t now_ns, uint32_t permille) {
  bucket_fill(place_header(place), bucket_frame(now_ns, place->phase_ns), permille);
}

/* Looks at what was measured; what it brings is charged.  True while a launch is overdue. */
static bool look(struct compute_place *place, bool granted) {
  bool relaxed = capture_relax();
  meter_news news = meter_look(&place->meter, &events_driver, place_header(place)->busy, granted);
  capture_tighten(relaxed);
  if (news.charge_ns != 0) charge(place, news.charge_ns);
  __atomic_store_n(&place->overdue, news.overdue, __ATOMIC_RELAXED);
  return news.overdue;
}

/* Every few milliseconds of a thread that launches. */
static void tick(struct compute_place *place, uint64_t coarse_ns, uint32_t permille, bool granted) {
  flush(place, coarse_ns);
  place_join(place, coarse_ns);
  if (permille == 0) return;
  fill(place, prim_monotonic_ns(), permille);
  (void)look(place, granted);
}

/* ---- waiting ------------------------------------------------------------------------------------------------------ */

struct wait {
  uint64_t began_ns;
  uint64_t nap_ns;  /* while waiting for a measurement */
  uint64_t told_ns; /* up to when it counts as held back; 0: it is not */
};

/* Until the beginning of the frame that brings the level above zero. */
static uint64_t until_tokens(const struct compute_place *place, int64_t level, uint64_t now_ns, uint32_t permille) {
  uint64_t due = bucket_frame(now_ns, place->phase_ns) + bucket_wait_ns(level, permille);
  uint64_t frame = bucket_frame(due + BUCKET_FRAME_NS - 1, place->phase_ns);
  uint64_t nap = frame > now_ns ? frame - now_ns : SHORTEST_NAP_NS;
  return nap < LONGEST_NAP_NS ? nap : LONGEST_NAP_NS;
}

static void nap(struct compute_place *place, uint64_t ns) {
  static uint32_t nothing;
  hami_usage_slot *slot = place_slot(place);
  if (slot != NULL) __atomic_store_n(&slot->wanted_at_ns, prim_coarse_ns(), __ATOMIC_RELAXED);
  prim_futex_wait(&nothing, 0, ns, false);
}

/* One look at the bucket; how long to wait before the next, 0: the launch may go. */
static uint64_t must_wait(struct compute_place *place, bool unknown, struct wait *wait, uint64_t now_ns) {
  bool granted;
  uint32_t permille = share_compute_permille(place_share(place), &granted);
  if (permille == 0) return 0;
  fill(place, now_ns, permille);
  bool overdue = look(place, granted);
  bool learning = unknown && __atomic_load_n(&place->meter.unknown, __ATOMIC_RELAXED) >= MOST_UNKNOWN;
  int64_t level = bucket_level(place_header(place), permille);
  uint64_t waited = now_ns - wait->began_ns;
  if (level <= 0 && waited < MOST_WAIT_NS) {
    if (wait->told_ns == 0) wait->told_ns = wait->began_ns;
    return until_tokens(place, level, now_ns, permille);
  }
  if (level <= 0 || !(overdue || learning) || waited > MOST_LEARNING_NS) return 0;
  if (wait->nap_ns < LONGEST_NAP_NS / 16) wait->nap_ns *= 2;
  return wait->nap_ns;
}

/* After each nap: whoever looks from outside must not take one that waits for seconds for one that has enough. */
static void tell_held_back(struct compute_place *place, struct wait *wait, uint64_t now_ns) {
  if (wait->told_ns == 0) return;
  hami_usage_slot *slot = place_slot(place);
  add(&place_header(place)->throttled_ns, now_ns - wait->told_ns);
  if (slot != NULL) add(&slot->throttled_ns, now_ns - wait->told_ns);
  wait->told_ns = now_ns;
}

static void wait_for_tokens(struct compute_launch *launch, bool unknown) {
  struct compute_place *place = launch->place;
  uint64_t now_ns = launch->entered_ns = prim_monotonic_ns();
  struct wait wait = {.began_ns = now_ns, .nap_ns = SHORTEST_NAP_NS / 2};
  flush(place, prim_coarse_ns());
  place_pick(place);
  for (uint64_t ns; (ns = must_wait(place, unknown, &wait, now_ns)) != 0;) {
    nap(place, ns);
    now_ns = prim_monotonic_ns();
    tell_held_back(place, &wait, now_ns);
  }
  if (wait.told_ns != 0) __atomic_store_n(&place->meter.paused_ns, now_ns, __ATOMIC_RELAXED);
}

/* ---- around a launch ---------------------------------------------------------------------------------------------- */

static void take(struct compute_launch *launch, uint64_t cost_ns) {
  launch->charged_ns = cost_ns;
  self.owed_ns += cost_ns;
  if (self.owed_ns >= PORTION_NS) flush(launch->place, self.tick_ns);
}

/* Takes one more launch into what the next sample stands for; racing threads lose a launch now and then, charge and all. */
static void count(estimate *known, uint64_t cost_ns, uint32_t until) {
  __atomic_store_n(&known->until, until - 1, __ATOMIC_RELAXED);
  __atomic_store_n(&known->since, __atomic_load_n(&known->since, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
  __atomic_store_n(&known->since_ns, __atomic_load_n(&known->since_ns, __ATOMIC_RELAXED) + cost_ns, __ATOMIC_RELAXED);
}

/* With no measure at all: as if the device had worked for us from the last such launch until this one came; and while this one
 * waited too, if it still works. */
static uint64_t guess_blindly(struct compute_launch *launch) {
  uint64_t now_ns = prim_monotonic_ns();
  uint64_t until = events_driver.idle(launch->work.stream) ? launch->entered_ns : now_ns;
  uint64_t last = __atomic_exchange_n(&launch->place->guessed_ns, now_ns, __ATOMIC_RELAXED);
  uint64_t passed = until > last ? until - last : 0;
  return passed < LEAST_GUESS_NS ? LEAST_GUESS_NS : passed > MOST_GUESS_NS ? MOST_GUESS_NS : passed;
}

/* What a launch of a signature that was never measured may take; 0: nobody knows. */
static uint64_t guess_of(const struct compute_work *work) {
  const estimate *function = work->function_key != 0 ? estimate_find(work->function_key) : NULL;
  if (function == NULL || __atomic_load_n(&function->samples, __ATOMIC_RELAXED) == 0) return 0;
  return __atomic_load_n(&function->mean_ns, __ATOMIC_RELAXED) + 1;
}

static void sample(struct compute_launch *launch, estimate *known, uint64_t mean_ns, uint64_t cost_ns, bool unknown) {
  struct compute_place *place = launch->place;
  meter_sample what = {
      .key = launch->work.key,
      .function_key = launch->work.function_key,
      .charged_ns = __atomic_load_n(&known->since_ns, __ATOMIC_RELAXED) + cost_ns,
      .launches = __atomic_load_n(&known->since, __ATOMIC_RELAXED) + 1,
      .unknown = unknown,
  };
  bool relaxed = capture_relax();
  launch->bracket = meter_open(&place->meter, &events_driver, launch->work.stream, &what);
  capture_tighten(relaxed);
  if (launch->bracket == NULL) {
    take(launch, unknown ? guess_blindly(launch) : cost_ns);
    count(known, launch->charged_ns, UNMEASURED);
    return;
  }
  __atomic_store_n(&known->since, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&known->since_ns, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&known->until, estimate_interval(mean_ns, meter_random(&place->meter)), __ATOMIC_RELAXED);
  take(launch, cost_ns);
  meter_launching(launch->bracket, &events_driver);
}

/* No tokens, or time for a sample, or both. */
static void enter_slowly(struct compute_launch *launch) {
  estimate *known = estimate_of(launch->work.key);
  uint32_t samples = __atomic_load_n(&known->samples, __ATOMIC_RELAXED);
  uint64_t mean = __atomic_load_n(&known->mean_ns, __ATOMIC_RELAXED);
  if (samples == 0) mean = guess_of(&launch->work);
  bool unknown = samples == 0 && mean == 0;
  if (unknown) mean = FIRST_GUESS_NS;
  wait_for_tokens(launch, unknown);
  uint64_t cost = meter_charge(&launch->place->meter, mean);
  uint32_t until = __atomic_load_n(&known->until, __ATOMIC_RELAXED);
  if (until == 0 || samples < ESTIMATE_LEARNING) {
    sample(launch, known, mean, cost, unknown);
  } else {
    take(launch, cost);
    count(known, cost, until);
  }
}

/* True when tokens are left, the cost is known and no sample is due. */
static bool enter_quickly(struct compute_launch *launch) {
  estimate *known = estimate_find(launch->work.key);
  if (known == NULL || __atomic_load_n(&known->samples, __ATOMIC_RELAXED) < ESTIMATE_LEARNING) return false;
  uint32_t until = __atomic_load_n(&known->until, __ATOMIC_RELAXED);
  struct compute_place *place = launch->place;
  if (until == 0 || __atomic_load_n(&place->overdue, __ATOMIC_RELAXED)) return false;
  if (__atomic_load_n(&place_header(place)->bucket_ns, __ATOMIC_RELAXED) <= 0) return false;
  uint64_t cost = meter_charge(&place->meter, __atomic_load_n(&known->mean_ns, __ATOMIC_RELAXED));
  take(launch, cost);
  count(known, cost, until);
  return true;
}

/* Often enough for whoever wants to know if this process still launches, and no more often. */
static __attribute__((noinline)) void tell(void) {
  struct compute_place *place = place_of(NULL, self.place);
  uint64_t coarse_ns = prim_coarse_ns(), passed = coarse_ns - self.tick_ns;
  if (passed > SELDOM_NS) self.portion /= 2;
  if (passed < OFTEN_NS && self.portion < MOST_COUNTED) self.portion = self.portion * 2 + 1;
  self.place = place;
  if (place != NULL) tick(place, coarse_ns, 0, false);
  self.launches = 0;
}

bool compute_wanted(void) {
  if (share_any_compute()) return true;
  if (self.launches++ >= self.portion) tell();
  return false;
}

void compute_enter(struct compute_launch *launch, const struct compute_work *work) {
  launch->bracket = NULL;
  launch->charged_ns = 0;
  struct compute_place *place = launch->place = place_of(work->stream, self.place);
  if (place == NULL) return;
  if (__builtin_expect(place != self.place, 0)) {
    if (self.place != NULL) flush(self.place, self.tick_ns);
    self.place = place;
  }
  bool granted;
  uint32_t permille = share_compute_permille(place_share(place), &granted);
  self.launches++;
  if (permille == 0) {
    if (self.launches > self.portion) tell();
    return;
  }
  if (capture_is_on(work->stream)) return;
  launch->work = *work;
  uint64_t coarse_ns = prim_coarse_ns();
  if (coarse_ns != self.tick_ns) tick(place, coarse_ns, permille, granted);
  if (!enter_quickly(launch)) enter_slowly(launch);
}

void compute_leave_slowly(struct compute_launch *launch, CUresult result) {
  if (launch->bracket != NULL) {
    bool relaxed = capture_relax();
    meter_close(&launch->place->meter, &events_driver, launch->bracket, result == CUDA_SUCCESS);
    capture_tighten(relaxed);
  }
  if (result != CUDA_SUCCESS) charge(launch->place, -(int64_t)launch->charged_ns);
}
