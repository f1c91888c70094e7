/* What a launch costs, known from earlier launches of the same signature.
 *
 * A table of fixed size in the process's memory; all fields are read and written without locks, and an update that is lost to
 * another thread costs nothing but precision.  When a run of slots is full the newest signature takes the place of another.
 *
 * Launches are sampled: the shorter a kernel, the rarer.  A sample stands for all launches since the sample before, so that
 * what is charged in the end does not depend on the estimate.
 */
#ifndef GUARD_ESTIMATE_H
#define GUARD_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

/* GPU time between samples of one signature; kernels as long as this are all sampled. */
#define ESTIMATE_SAMPLE_NS 200000u

enum { ESTIMATE_MOST_UNSAMPLED = 256, ESTIMATE_LEARNING = 3 };

typedef struct estimate {
  uint64_t key; /* 0: free */
  uint64_t mean_ns;
  uint64_t typical_ns; /* a running median */
  uint64_t since_ns;   /* charged since the last sample, */
  uint32_t since;      /* for so many launches */
  uint32_t until;      /* launches until the next sample */
  uint32_t samples;
} estimate;

/* Forgets all; first use of the process or of a forked child. */
void estimate_reset(void);
/* Never NULL.  key must not be zero. */
estimate *estimate_of(uint64_t key);
/* The entry, if it is known. */
estimate *estimate_find(uint64_t key);
/* Takes in what one launch took. */
void estimate_learn(estimate *entry, uint64_t took_ns);
/* How many launches to let pass before the next sample, with a jitter so that no rhythm of the program can hide. */
uint32_t estimate_interval(uint64_t mean_ns, uint64_t random);

static inline uint64_t estimate_mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ (b + 0x9E3779B97F4A7C15u + (a << 6) + (a >> 2))) * 0xBF58476D1CE4E5B9u;
  return x ^ x >> 29;
}

#endif
