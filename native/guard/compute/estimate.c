#include "estimate.h"

#include <string.h>

enum { SLOTS = 4096, RUN = 8, SLOWEST = 16 };

static estimate table[SLOTS];

void estimate_reset(void) { memset(table, 0, sizeof table); }

static estimate *slot(uint64_t key, unsigned i) { return &table[(key + i) % SLOTS]; }

estimate *estimate_find(uint64_t key) {
  for (unsigned i = 0; i < RUN; i++) {
    estimate *found = slot(key, i);
    if (__builtin_expect(__atomic_load_n(&found->key, __ATOMIC_ACQUIRE) == key, 1)) return found;
  }
  return 0;
}

static void clear(estimate *entry, uint64_t key) {
  __atomic_store_n(&entry->mean_ns, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->typical_ns, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->since_ns, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->since, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->until, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->samples, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->key, key, __ATOMIC_RELEASE);
}

estimate *estimate_of(uint64_t key) {
  estimate *found = estimate_find(key);
  if (found != 0) return found;
  for (unsigned i = 0; i < RUN; i++) {
    uint64_t nobody = 0;
    if (__atomic_compare_exchange_n(&slot(key, i)->key, &nobody, key, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
      return slot(key, i);
  }
  found = slot(key, (unsigned)(key >> 32) % RUN);
  clear(found, key);
  return found;
}

void estimate_learn(estimate *entry, uint64_t took_ns) {
  uint32_t samples = __atomic_load_n(&entry->samples, __ATOMIC_RELAXED);
  int64_t mean = (int64_t)__atomic_load_n(&entry->mean_ns, __ATOMIC_RELAXED);
  int64_t typical = (int64_t)__atomic_load_n(&entry->typical_ns, __ATOMIC_RELAXED);
  int64_t took = (int64_t)(took_ns > INT64_MAX / 2 ? INT64_MAX / 2 : took_ns);
  int64_t step = typical / SLOWEST + 1;
  mean += (took - mean) / (samples < SLOWEST ? (int64_t)samples + 1 : SLOWEST);
  if (samples == 0) typical = took;
  if (took > typical) typical += took - typical < step ? took - typical : step;
  if (took < typical) typical -= typical - took < step ? typical - took : step;
  __atomic_store_n(&entry->mean_ns, (uint64_t)mean, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->typical_ns, (uint64_t)typical, __ATOMIC_RELAXED);
  __atomic_store_n(&entry->samples, samples < UINT32_MAX ? samples + 1 : samples, __ATOMIC_RELAXED);
}

uint32_t estimate_interval(uint64_t mean_ns, uint64_t random) {
  uint64_t launches = ESTIMATE_SAMPLE_NS / (mean_ns + 1);
  if (launches > ESTIMATE_MOST_UNSAMPLED) launches = ESTIMATE_MOST_UNSAMPLED;
  return launches < 2 ? 0 : (uint32_t)(launches / 2 + random % launches);
}
