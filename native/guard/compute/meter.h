/* How long launches keep the device busy, measured with the driver's events around some of them.
 *
 * One meter for each context.  A bracket is a pair of events around one launch; brackets are looked at later, when they are done,
 * by whoever launches or waits to launch.  No locks around calls of the driver: a bracket belongs to whoever moves its state.
 *
 * Two figures are kept, neither less than the truth: the sum of the launches' own durations, which is right while nothing runs
 * at the same time, and the time in which the context's streams had anything to do, which is right while queues are deep.
 * The smaller of the two over the last few hundred milliseconds is what launches are charged.
 */
#ifndef GUARD_METER_H
#define GUARD_METER_H

#include <stdbool.h>
#include <stdint.h>

#include "estimate.h"
#include "lock.h"

enum { METER_BRACKETS = 256, METER_TRACKS = 32 };

/* The driver, as far as a meter needs it; another one in tests. */
typedef struct meter_driver {
  void *(*create)(void); /* an event; NULL: none to be had */
  bool (*record)(void *event, void *stream);
  int (*done)(void *event); /* 1, 0 not yet, negative: lost */
  bool (*elapsed)(float *ms, void *start, void *end);
  bool (*idle)(void *stream);
  uint64_t (*now_ns)(void); /* CLOCK_MONOTONIC */
} meter_driver;

/* What a bracket's launch stands for. */
typedef struct meter_sample {
  uint64_t key;
  uint64_t function_key; /* the same whatever the shape; 0: none */
  uint64_t charged_ns;   /* for all launches of this signature since the last sample, this one included */
  uint32_t launches;
  bool unknown; /* nobody knows yet how long it takes */
} meter_sample;

typedef struct meter_bracket {
  uint32_t state;
  bool was_idle; /* the stream, when the bracket was opened */
  meter_sample sample;
  void *start, *end;
  void *stream;
  uint64_t recorded_ns; /* host's times: before the first event, before the launch, before the second event */
  uint64_t launched_ns;
  uint64_t closed_ns;
} meter_bracket;

/* Where the last bracket of a stream ended. */
typedef struct meter_track {
  void *stream;
  uint64_t end_ns;
  uint64_t launched_ns;
} meter_track;

typedef struct meter {
  guard_lock lock; /* guards what is settled, never held across calls of the driver */
  meter_bracket brackets[METER_BRACKETS];
  meter_track tracks[METER_TRACKS];
  void *base; /* the event that positions are counted from; it lay at base_ns of the device's time */
  uint64_t base_ns;
  int64_t offset_ns[2]; /* host's time less device's, the least of this and of the former base */
  double durations_ns;  /* the two figures */
  double occupied_ns;
  uint64_t allowance_ns; /* device time for which interruptions by others are forgiven */
  uint64_t paused_ns;    /* when launches were last held back */
  uint64_t random;
  uint32_t share_of_sum; /* of durations, 1/65536: what to charge */
  uint32_t cursor;       /* the bracket opened last, and before it the older ones */
  uint32_t opened;       /* brackets in use */
  uint32_t unknown;      /* of them with a signature never measured */
  uint32_t failures;     /* in a row */
} meter;

void meter_init(meter *m, uint64_t seed);
/* Opens a bracket in front of a launch; NULL when it cannot be measured.  The caller launches, then closes or cancels. */
meter_bracket *meter_open(meter *m, const meter_driver *driver, void *stream, const meter_sample *sample);
void meter_launching(meter_bracket *bracket, const meter_driver *driver);
void meter_close(meter *m, const meter_driver *driver, meter_bracket *bracket, bool launched);

/* What a look at the brackets brought. */
typedef struct meter_news {
  int64_t charge_ns; /* to be charged on top of what was charged at the launches; negative: to be given back */
  bool overdue;      /* a launch takes so much longer than expected that the expectation is worth nothing */
} meter_news;

/* Looks at the brackets, the oldest first.  busy: the share's map.  forgive: somebody outside corrects what time slices of other tenants add, so that
 * for short kernels they may be left out here. */
meter_news meter_look(meter *m, const meter_driver *driver, uint64_t *busy, bool forgive);
/* A number that no program can guess well. */
static inline uint64_t meter_random(meter *m) {
  uint64_t next =
      estimate_mix(__atomic_load_n(&m->random, __ATOMIC_RELAXED), __atomic_load_n(&m->cursor, __ATOMIC_RELAXED));
  __atomic_store_n(&m->random, next, __ATOMIC_RELAXED);
  return next;
}

/* What to charge for a launch whose duration is estimated so. */
static inline uint64_t meter_charge(const meter *m, uint64_t mean_ns) {
  return mean_ns * __atomic_load_n(&m->share_of_sum, __ATOMIC_RELAXED) >> 16;
}

#endif
