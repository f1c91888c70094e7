#include "meter.h"

#include <string.h>

#include "busy.h"

enum { FREE, HELD, PENDING };
enum { OPEN_TRIES = 4, LOOK_AHEAD = 4 };
enum { MOST_FAILURES = 8, SHORT_KERNEL_NS = 1000000 };

#define WHOLE 65536.0
#define LEAST_SHARE 0.015
#define NEARLY_WHOLE 0.93 /* less is chance: cells of the map are coarse */
#define MOST_OCCUPIED 1.25

#define RESOLUTION_NS 500        /* of events, by NVIDIA's documentation */
#define BASE_LIFE_NS 2000000000u /* elapsed times are floats: beyond this they get coarse */
#define TRACK_LIFE_NS 20000000u  /* a stream that was given nothing for so long may have been idle */
#define HORIZON_NS 200e6         /* of the two figures */
#define HOST_DELAY_NS 5000u      /* more than this between launch and event, and the event tells about the host */
#define HOST_SHARE 32u           /* unless it is a small part of what they tell */
#define INTERRUPTION_NS 1000000u /* what a time slice of another tenant adds at least */
#define SLICE_NS 1500000u        /* how much a tenant runs at least between two interruptions */
#define MOST_ALLOWANCE_NS (2u * ESTIMATE_MOST_UNSAMPLED * SLICE_NS) /* one sample may stand for so many launches */
#define LONGEST_NS UINT64_C(60000000000)
#define PATIENCE_NS UINT64_C(250000000) /* a launch is overdue after this, and so many times what it was charged */
#define PATIENCE 16u

void meter_init(meter *m, uint64_t seed) {
  memset(m, 0, sizeof *m);
  m->share_of_sum = (uint32_t)WHOLE;
  m->random = seed | 1u;
  m->offset_ns[0] = m->offset_ns[1] = INT64_MAX;
}

static bool move(meter_bracket *bracket, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(&bracket->state, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static void let_go(meter *m, meter_bracket *bracket) {
  if (bracket->sample.unknown) __atomic_sub_fetch(&m->unknown, 1, __ATOMIC_RELAXED);
  __atomic_sub_fetch(&m->opened, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&bracket->state, FREE, __ATOMIC_RELEASE);
}

/* Events that fail belong to a context that is gone or broken: make new ones, but not for ever. */
static void fail(meter *m, meter_bracket *bracket) {
  bracket->start = bracket->end = NULL;
  __atomic_add_fetch(&m->failures, 1, __ATOMIC_RELAXED);
  let_go(m, bracket);
}

static bool has_events(meter_bracket *bracket, const meter_driver *driver) {
  if (bracket->start == NULL) bracket->start = driver->create();
  if (bracket->end == NULL) bracket->end = driver->create();
  return bracket->start != NULL && bracket->end != NULL;
}

meter_bracket *meter_open(meter *m, const meter_driver *driver, void *stream, const meter_sample *sample) {
  uint32_t failures = __atomic_load_n(&m->failures, __ATOMIC_RELAXED);
  if (failures > MOST_FAILURES) { /* try again now and then */
    __atomic_store_n(&m->failures, failures < 2 * ESTIMATE_MOST_UNSAMPLED ? failures + 1 : 0, __ATOMIC_RELAXED);
    return NULL;
  }
  for (int tries = 0; tries < OPEN_TRIES; tries++) {
    uint32_t next = __atomic_add_fetch(&m->cursor, 1, __ATOMIC_RELAXED);
    meter_bracket *bracket = &m->brackets[next % METER_BRACKETS];
    if (!move(bracket, FREE, HELD)) continue;
    bracket->sample = *sample;
    bracket->stream = stream;
    __atomic_add_fetch(&m->opened, 1, __ATOMIC_RELAXED);
    if (sample->unknown) __atomic_add_fetch(&m->unknown, 1, __ATOMIC_RELAXED);
    if (has_events(bracket, driver)) {
      bracket->was_idle = driver->idle(stream);
      bracket->recorded_ns = driver->now_ns();
      if (driver->record(bracket->start, stream)) return bracket;
    }
    fail(m, bracket);
    return NULL;
  }
  return NULL;
}

void meter_launching(meter_bracket *bracket, const meter_driver *driver) { bracket->launched_ns = driver->now_ns(); }

void meter_close(meter *m, const meter_driver *driver, meter_bracket *bracket, bool launched) {
  bracket->closed_ns = driver->now_ns();
  if (!launched) {
    let_go(m, bracket);
  } else if (!driver->record(bracket->end, bracket->stream)) {
    fail(m, bracket);
  } else {
    __atomic_store_n(&m->failures, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&bracket->state, PENDING, __ATOMIC_RELEASE);
  }
}

/* ---- settling, with the lock held --------------------------------------------------------------------------------- */

/* Device time is what events say; the host learns of an end some time after it, the least late of the last ones is taken for the
 * distance between the two clocks. */
static uint64_t host_time(meter *m, uint64_t device_ns, uint64_t now_ns) {
  int64_t distance = (int64_t)(now_ns - device_ns);
  if (distance < m->offset_ns[0]) m->offset_ns[0] = distance;
  int64_t least = m->offset_ns[0] < m->offset_ns[1] ? m->offset_ns[0] : m->offset_ns[1];
  return device_ns + (uint64_t)least;
}

static meter_track *track_of(meter *m, void *stream) {
  meter_track *oldest = &m->tracks[0];
  for (int i = 0; i < METER_TRACKS; i++) {
    meter_track *track = &m->tracks[i];
    if (track->stream == stream && track->launched_ns != 0) return track;
    if (track->launched_ns < oldest->launched_ns) oldest = track;
  }
  *oldest = (meter_track){.stream = stream};
  return oldest;
}

/* How long the launch itself took; false when the host was too slow for its events to say: while it was between two of its calls
 * the stream may have come to its end. */
static bool duration(const meter_bracket *bracket, float ms, uint64_t *took_ns) {
  uint64_t ns = ms > 0 ? (uint64_t)((double)ms * 1e6) : 0;
  if (ns > LONGEST_NS) ns = LONGEST_NS;
  uint64_t before = bracket->launched_ns - bracket->recorded_ns, after = bracket->closed_ns - bracket->launched_ns;
  *took_ns = ns;
  if (!bracket->was_idle) return before <= HOST_DELAY_NS || before < ns / HOST_SHARE;
  if (ns <= RESOLUTION_NS)
    *took_ns = 0;
  else
    *took_ns = ns > before ? ns - before : 0;
  return after <= HOST_DELAY_NS || after < *took_ns / 2;
}

/* Time slices of other tenants fall into some brackets of short kernels; at most one in each slice that we had. */
static uint64_t without_interruptions(meter *m, const estimate *known, uint64_t took_ns, uint32_t launches) {
  uint64_t typical = __atomic_load_n(&known->typical_ns, __ATOMIC_RELAXED);
  bool learned = __atomic_load_n(&known->samples, __ATOMIC_RELAXED) >= ESTIMATE_LEARNING;
  bool interrupted = learned && typical < SHORT_KERNEL_NS && took_ns > typical + INTERRUPTION_NS;
  m->allowance_ns += (interrupted ? typical : took_ns) * launches;
  if (m->allowance_ns > MOST_ALLOWANCE_NS) m->allowance_ns = MOST_ALLOWANCE_NS;
  uint64_t price = (uint64_t)SLICE_NS * launches;
  if (!interrupted || m->allowance_ns < price) return took_ns;
  m->allowance_ns -= price;
  return typical;
}

static void weigh(meter *m, double durations_ns, double occupied_ns) {
  m->durations_ns += durations_ns;
  m->occupied_ns += occupied_ns;
  while (m->durations_ns > HORIZON_NS) {
    m->durations_ns /= 2;
    m->occupied_ns /= 2;
  }
  if (m->occupied_ns > m->durations_ns * MOST_OCCUPIED) m->occupied_ns = m->durations_ns * MOST_OCCUPIED;
  double share = m->durations_ns > 0 ? m->occupied_ns / m->durations_ns : 1;
  double bounded = share > NEARLY_WHOLE ? WHOLE : share < LEAST_SHARE ? LEAST_SHARE * WHOLE : share * WHOLE;
  __atomic_store_n(&m->share_of_sum, (uint32_t)bounded, __ATOMIC_RELAXED);
}

/* Whether this bracket's launches, and nothing else, were given to the stream since its last bracket, without a pause of ours. */
static bool follows(const meter *m, const meter_track *track, const meter_bracket *bracket) {
  if (bracket->sample.launches < 2 || track->launched_ns == 0) return false;
  return bracket->launched_ns - track->launched_ns < TRACK_LIFE_NS &&
         track->launched_ns >= __atomic_load_n(&m->paused_ns, __ATOMIC_RELAXED);
}

/* Takes one bracket into the two figures: with the launches that it stands for (others_ns) and the time from the stream's last bracket on,
 * or alone where that is all that is known. */
static void compare(meter *m, const meter_bracket *bracket, uint64_t *busy, uint64_t end_ns, uint64_t took_ns,
                    uint64_t others_ns) {
  meter_track *track = track_of(m, bracket->stream);
  uint64_t start_ns = end_ns - took_ns;
  if (follows(m, track, bracket) && track->end_ns < start_ns)
    weigh(m, (double)took_ns + (double)others_ns, (double)busy_mark(busy, track->end_ns, end_ns));
  else
    weigh(m, (double)took_ns, (double)busy_mark(busy, start_ns, end_ns));
  if (end_ns > track->end_ns) *track = (meter_track){bracket->stream, end_ns, bracket->launched_ns};
}

static int64_t settle(meter *m, const meter_bracket *bracket, float ms, float since_base_ms, uint64_t now_ns,
                      uint64_t *busy, bool forgive) {
  const meter_sample *sample = &bracket->sample;
  uint64_t took;
  if (!duration(bracket, ms, &took)) return 0;
  estimate *known = estimate_of(sample->key);
  uint64_t device_ns = m->base_ns + (uint64_t)(int64_t)((double)since_base_ms * 1e6);
  uint64_t end_ns = host_time(m, device_ns, now_ns);
  compare(m, bracket, busy, end_ns, took, __atomic_load_n(&known->mean_ns, __ATOMIC_RELAXED) * (sample->launches - 1));
  if (forgive) took = without_interruptions(m, known, took, sample->launches);
  estimate_learn(known, took);
  if (sample->function_key != 0) estimate_learn(estimate_of(sample->function_key), took);
  /* The others by the mean, which took this one in: a rare long one counts as much, but over the next samples and not at once. */
  uint64_t mean = __atomic_load_n(&known->mean_ns, __ATOMIC_RELAXED);
  uint64_t others = meter_charge(m, mean) * (sample->launches - 1);
  return (int64_t)(meter_charge(m, took) + others) - (int64_t)sample->charged_ns;
}

/* This bracket's end is the new base; the old base serves the bracket from now on. */
static void move_base(meter *m, meter_bracket *bracket, float since_base_ms) {
  void *end = bracket->end;
  m->base_ns += (uint64_t)(int64_t)((double)since_base_ms * 1e6);
  bracket->end = m->base;
  __atomic_store_n(&m->base, end, __ATOMIC_RELEASE);
  m->offset_ns[1] = m->offset_ns[0];
  m->offset_ns[0] = INT64_MAX;
}

/* ---- looking ------------------------------------------------------------------------------------------------------- */

/* A bracket that is done: ours until it is free again. */
static int64_t finish(meter *m, const meter_driver *driver, meter_bracket *bracket, uint64_t *busy, bool forgive) {
  float ms = 0, since_base_ms = 0;
  void *base = __atomic_load_n(&m->base, __ATOMIC_ACQUIRE);
  bool good = driver->elapsed(&ms, bracket->start, bracket->end);
  if (good && base != NULL) good = driver->elapsed(&since_base_ms, base, bracket->end);
  if (!good) {
    fail(m, bracket);
    return 0;
  }
  uint64_t now_ns = driver->now_ns();
  int64_t charge = 0;
  {
    GUARD_HOLD(&m->lock);
    if (m->base == base) {
      if (base == NULL) m->base_ns = LONGEST_NS; /* times before the base stay positive */
      charge = settle(m, bracket, ms, since_base_ms, now_ns, busy, forgive);
      if (base == NULL || (double)since_base_ms * 1e6 > BASE_LIFE_NS) move_base(m, bracket, since_base_ms);
    }
  }
  let_go(m, bracket);
  return charge;
}

static bool is_overdue(const meter_bracket *bracket, uint64_t now_ns) {
  uint64_t charged = bracket->sample.charged_ns < LONGEST_NS ? bracket->sample.charged_ns : LONGEST_NS;
  return now_ns > bracket->launched_ns && now_ns - bracket->launched_ns > PATIENCE_NS + PATIENCE * charged;
}

meter_news meter_look(meter *m, const meter_driver *driver, uint64_t *busy, bool forgive) {
  meter_news news = {0, false};
  if (__atomic_load_n(&m->opened, __ATOMIC_RELAXED) == 0) return news;
  uint64_t now_ns = driver->now_ns();
  uint32_t newest = __atomic_load_n(&m->cursor, __ATOMIC_RELAXED);
  uint32_t undone = 0;
  for (uint32_t i = 1; i <= METER_BRACKETS && undone < LOOK_AHEAD; i++) {
    meter_bracket *bracket = &m->brackets[(newest + i) % METER_BRACKETS];
    if (__atomic_load_n(&bracket->state, __ATOMIC_RELAXED) != PENDING || !move(bracket, PENDING, HELD)) continue;
    int done = driver->done(bracket->end);
    if (done > 0) news.charge_ns += finish(m, driver, bracket, busy, forgive);
    if (done < 0) fail(m, bracket);
    if (done == 0) {
      undone++;
      news.overdue |= is_overdue(bracket, now_ns);
      __atomic_store_n(&bracket->state, PENDING, __ATOMIC_RELEASE);
    }
  }
  return news;
}
