/* The limiter's parts that know nothing of CUDA, with a clock and a driver of their own, for the sanitizers.
 *
 * usage: unit_compute bucket|busy|estimate|meter|threads SEED.  Status 0 when all holds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bucket.h"
#include "busy.h"
#include "estimate.h"
#include "meter.h"

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/* ---- bucket ---- */

static void test_bucket(void) {
  static hami_usage_header header;
  uint64_t now = 5 * SECOND + next() % SECOND, phase = next() % BUCKET_FRAME_NS;
  bucket_fill(&header, bucket_frame(now, phase), 500);
  CHECK(bucket_level(&header, 500) == 50 * (int64_t)MS); /* a new file: one full bucket */
  CHECK(bucket_frame(now, phase) <= now && now - bucket_frame(now, phase) < BUCKET_FRAME_NS);
  int64_t spent = 0, full = bucket_level(&header, 500);
  uint64_t start = bucket_frame(now, phase);
  for (int i = 0; i < 20000; i++) { /* whoever always wants gets the rate, whatever the steps of the clock */
    now += next() % (3 * MS);
    bucket_fill(&header, bucket_frame(now, phase), 500);
    while (bucket_level(&header, 500) > 0) {
      int64_t cost = (int64_t)(next() % (20 * MS));
      bucket_charge(&header, cost);
      spent += cost;
    }
  }
  int64_t due = full + (int64_t)(bucket_frame(now, phase) - start) / 2;
  CHECK(spent - bucket_level(&header, 500) * -1 <= due && spent >= due);
  uint64_t wait = bucket_wait_ns(bucket_level(&header, 500), 500);
  bucket_fill(&header, bucket_frame(now + wait + BUCKET_FRAME_NS, phase), 500);
  CHECK(bucket_level(&header, 500) > 0);
  for (int i = 0; i < 20000; i++) { /* garbage is worth one full bucket at most, and is paid off in bounded time */
    uint32_t permille = (uint32_t)(next() % 2000 + 1);
    header.bucket_ns = (int64_t)next();
    header.bucket_at_ns = next() >> next() % 64;
    bucket_fill(&header, bucket_frame(now, phase), permille);
    CHECK(bucket_level(&header, permille) <= (int64_t)(BUCKET_SAVED_NS / 1000 * permille));
    CHECK(bucket_wait_ns(bucket_level(&header, permille), permille) <= BUCKET_DEBT_NS + MS);
    bucket_charge(&header, (int64_t)next());
  }
}

/* ---- busy ---- */

static void test_busy(void) {
  enum { CELLS = 3000 };
  static hami_usage_header header;
  static unsigned char model[CELLS];
  uint64_t origin = (next() % 1000 + 1000) * BUSY_CELL_NS;
  for (int i = 0; i < 4000;
       i++) { /* intervals of the last while, in any order: what is new is what no other one covered */
    uint64_t first = next() % 900 + (uint64_t)i / 2, length = next() % 40, fresh = 0;
    for (uint64_t cell = first; cell < first + length; cell++) fresh += model[cell]++ == 0;
    uint64_t from = origin + first * BUSY_CELL_NS + next() % (BUSY_CELL_NS / 2);
    CHECK(busy_mark(header.busy, from, from + length * BUSY_CELL_NS) == fresh * BUSY_CELL_NS);
    if (i % 200 == 199) i += 200;
  }
  CHECK(busy_mark(header.busy, 2000, 1000) == 0);
  CHECK(busy_mark(header.busy, 0, 3600 * SECOND) >= 3599 * SECOND); /* longer than the map */
  for (int i = 0; i < 20000; i++) { /* garbage in the map makes nothing longer than it was */
    for (int j = 0; j < 8; j++) header.busy[next() % HAMI_USAGE_BUSY_WORDS] = next();
    uint64_t from = next() % (3600 * SECOND), length = next() % SECOND;
    CHECK(busy_mark(header.busy, from, from + length) <= length + BUSY_CELL_NS);
  }
}

/* ---- estimate ---- */

static void test_estimate(void) {
  estimate_reset();
  CHECK(estimate_find(77) == NULL && estimate_of(77) == estimate_find(77));
  for (int i = 0; i < 1000; i++) estimate_learn(estimate_of(77), 5000 + next() % 1000);
  CHECK(estimate_of(77)->mean_ns > 5200 && estimate_of(77)->mean_ns < 5800);
  for (int i = 0; i < 100; i++) estimate_learn(estimate_of(77), i % 10 == 0 ? 50 * MS : 5000);
  CHECK(estimate_of(77)->typical_ns < 50000 && estimate_of(77)->mean_ns > MS);
  for (int i = 0; i < 100000; i++) { /* more signatures than the table holds */
    uint64_t key = next() | 1u;
    estimate *entry = estimate_of(key);
    CHECK(entry != NULL && entry->key == key && entry->samples == 0);
    estimate_learn(entry, UINT64_MAX);
  }
  for (int i = 0; i < 1000; i++) {
    CHECK(estimate_interval(10 * MS, next()) == 0);
    CHECK(estimate_interval(10000, next()) < 40 && estimate_interval(0, next()) < 2 * ESTIMATE_MOST_UNSAMPLED);
  }
}

/* ---- meter, over a driver whose device is a few lines ---- */

enum { STREAMS = 4, EVENTS = 512 };

static struct device {
  uint64_t now;                 /* the host's clock */
  uint64_t busy_until[STREAMS]; /* what was launched is done then */
  uint64_t events[EVENTS];      /* when they were or will be reached */
  int made;
  bool broken;
} device;

static void *make_event(void) { return device.broken || device.made == EVENTS ? NULL : &device.events[device.made++]; }
static uint64_t *stream_of(void *stream) { return &device.busy_until[(uintptr_t)stream % STREAMS]; }
static uint64_t later(uint64_t a, uint64_t b) { return a > b ? a : b; }
static bool record(void *event, void *stream) {
  *(uint64_t *)event = later(*stream_of(stream), device.now);
  return !device.broken;
}
static int is_done(void *event) { return device.broken ? -1 : *(uint64_t *)event <= device.now; }
static bool elapsed(float *ms, void *start, void *end) {
  *ms = (float)((double)(int64_t)(*(uint64_t *)end - *(uint64_t *)start) / 1e6);
  return !device.broken;
}
static bool is_idle(void *stream) { return *stream_of(stream) <= device.now; }
static uint64_t device_clock(void) { return device.now; }
static const meter_driver fake = {make_event, record, is_done, elapsed, is_idle, device_clock};

static meter the_meter;
static uint64_t map[HAMI_USAGE_BUSY_WORDS];

static void begin(void) {
  memset(&device, 0, sizeof device);
  memset(map, 0, sizeof map);
  device.now = 1000 * SECOND;
  estimate_reset();
  meter_init(&the_meter, next());
}

/* Launches a kernel as the limiter does; returns what was charged. */
static int64_t launch(uint64_t key, uintptr_t stream, uint64_t duration_ns, bool forgive) {
  estimate *known = estimate_of(key);
  uint64_t cost = meter_charge(&the_meter, known->samples == 0 ? 200000 : known->mean_ns);
  meter_bracket *bracket = NULL;
  int64_t charged = (int64_t)cost;
  if (known->until == 0 || known->samples < ESTIMATE_LEARNING) {
    meter_news news = meter_look(&the_meter, &fake, map, forgive);
    charged += news.charge_ns;
    meter_sample sample = {key, 0, known->since_ns + cost, known->since + 1, known->samples == 0};
    bracket = meter_open(&the_meter, &fake, (void *)stream, &sample);
    known->since = 0;
    known->since_ns = 0;
    known->until = estimate_interval(known->mean_ns, next());
  } else {
    known->until--;
    known->since++;
    known->since_ns += cost;
  }
  device.now += 1000;
  if (bracket != NULL) meter_launching(bracket, &fake);
  uint64_t *busy_until = stream_of((void *)stream);
  *busy_until = later(*busy_until, device.now) + duration_ns;
  if (bracket != NULL) meter_close(&the_meter, &fake, bracket, true);
  return charged;
}

static void expect(int64_t charged, int64_t truth, int percent) {
  if (llabs(charged - truth) * 100 > truth * percent) {
    fprintf(stderr, "charged %lld for %lld\n", (long long)charged, (long long)truth);
    exit(1);
  }
}

/* Queues kept some milliseconds deep on one or several streams that run at the same time. */
static void deep_queues(unsigned streams, uint64_t shortest_ns, uint64_t longest_ns) {
  int64_t charged = 0;
  begin();
  uint64_t idle = 0, start = device.now;
  for (int i = 0; device.now < start + 3 * SECOND; i++) {
    uint64_t took = shortest_ns + next() % (longest_ns - shortest_ns + 1);
    uintptr_t stream = (uintptr_t)i % streams;
    if (*stream_of((void *)stream) > device.now + 3 * MS) device.now = *stream_of((void *)stream) - 2 * MS;
    if (i > 100 && is_idle((void *)stream)) idle++;
    charged += launch(11, stream, took, false);
  }
  CHECK(idle == 0 || longest_ns < 3000);
  expect(charged, (int64_t)(device.now - start), 8);
}

static void synchronous(uint64_t took_ns, uint64_t pause_ns) {
  int64_t charged = 0, truth = 0;
  begin();
  while (truth < (int64_t)(2 * SECOND)) {
    charged += launch(12, 0, took_ns, false);
    truth += (int64_t)took_ns;
    device.now = later(device.now, device.busy_until[0]) + pause_ns;
  }
  expect(charged, truth, 8);
}

/* One long sample that stands for many launches is not charged for each of them at once. */
static void rare_and_long(void) {
  begin();
  for (int i = 0; i < 100; i++) {
    (void)launch(17, 0, 100000, false);
    device.now = device.busy_until[0];
  }
  (void)meter_look(&the_meter, &fake, map, false);
  meter_sample sample = {17, 0, 65 * 100000, 65, false};
  meter_bracket *bracket = meter_open(&the_meter, &fake, NULL, &sample);
  meter_launching(bracket, &fake);
  device.busy_until[0] = device.now + 12 * MS;
  meter_close(&the_meter, &fake, bracket, true);
  device.now = device.busy_until[0];
  int64_t charged = meter_look(&the_meter, &fake, map, false).charge_ns;
  CHECK(charged > (int64_t)(12 * MS - MS) && charged < (int64_t)(65 * 12 * MS / 8));
}

static void test_meter(void) {
  deep_queues(1, 10000, 10000);
  deep_queues(1, 1000, 100000); /* durations that the signature does not tell */
  deep_queues(1, 5 * MS, 50 * MS);
  deep_queues(4, 10000, 10000);
  deep_queues(4, 20 * MS, 20 * MS);
  synchronous(10000, 20000);
  synchronous(10000, 0);
  synchronous(MS, 5 * MS);
  synchronous(200 * MS, 0);
  rare_and_long();
  begin();
  int64_t charged = 0;
  for (int i = 0; i < 2000; i++) { /* another tenant's time slice in one kernel of twenty */
    charged += launch(13, 0, 100000 + (i % 20 == 7 ? 2 * MS : 0), true);
    device.now = device.busy_until[0];
  }
  expect(charged, 2000 * 100000, 10);
  begin();
  charged = 0;
  for (int i = 0; i < 2000; i++) { /* a rhythm that no time slice has: it is the kernel's own, and counts */
    charged += launch(14, 0, i % 3 == 1 ? 3 * MS : 10000, true);
    device.now = device.busy_until[0];
  }
  CHECK(charged > 667 * 3 * (int64_t)MS * 9 / 10);
  begin();
  device.broken = true; /* no events: launches go on, the meter tries again now and then */
  for (int i = 0; i < 1000; i++) CHECK(launch(15, 0, MS, false) >= 0);
  CHECK(the_meter.opened == 0 && the_meter.unknown == 0);
  device.broken = false;
  for (int i = 0; i < 1000; i++) {
    charged = launch(15, 0, MS, false);
    device.now = device.busy_until[0];
  }
  CHECK(charged > 900000 && charged < 1100000);
  (void)launch(16, 0, 100 * SECOND, false);
  device.now += SECOND;
  CHECK(meter_look(&the_meter, &fake, map, false).overdue);
}

/* ---- threads: no charge is lost, nothing is counted twice ---- */

enum { THREADS = 8, ROUNDS = 20000 };
static hami_usage_header shared;
static uint64_t marked;

static void *spend(void *argument) {
  uint64_t number = (uint64_t)(uintptr_t)argument, sum = 0;
  for (uint64_t i = 0; i < ROUNDS; i++) {
    bucket_charge(&shared, 10);
    bucket_fill(&shared, SECOND + i / 100 * BUCKET_FRAME_NS, 1);
    uint64_t from = SECOND + i * BUSY_CELL_NS / 8; /* the same interval from all threads */
    sum += busy_mark(shared.busy, from, from + BUSY_CELL_NS);
    estimate *known = estimate_of((number + i) % 64 + 1);
    estimate_learn(known, 1000);
    CHECK(__atomic_load_n(&known->mean_ns, __ATOMIC_RELAXED) <= 1000);
  }
  __atomic_add_fetch(&marked, sum, __ATOMIC_RELAXED);
  return NULL;
}

static void test_threads(void) {
  pthread_t threads[THREADS];
  shared.bucket_at_ns = SECOND;
  for (uintptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, spend, (void *)(i + 1)) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  int64_t poured = (ROUNDS / 100 - 1) * (int64_t)BUCKET_FRAME_NS / 1000;
  CHECK(shared.bucket_ns <= poured - (int64_t)THREADS * ROUNDS * 10 || shared.bucket_ns <= 100 * (int64_t)MS / 1000);
  CHECK(marked >= ROUNDS / 8 * BUSY_CELL_NS && marked <= (ROUNDS / 8 + 2) * BUSY_CELL_NS);
}

int main(int count, char **arguments) {
  CHECK(count == 3);
  state += strtoull(arguments[2], NULL, 10) * 0x9E3779B97F4A7C15u;
  if (strcmp(arguments[1], "bucket") == 0) test_bucket();
  if (strcmp(arguments[1], "busy") == 0) test_busy();
  if (strcmp(arguments[1], "estimate") == 0) test_estimate();
  if (strcmp(arguments[1], "meter") == 0) test_meter();
  if (strcmp(arguments[1], "threads") == 0) test_threads();
  return 0;
}
