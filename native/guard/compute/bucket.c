#include "bucket.h"

#define FAR_AHEAD_NS UINT64_C(1000000000)

static int64_t worth(uint64_t ns, uint32_t permille) { return (int64_t)(ns / 1000u * permille); }

static int64_t clamp(int64_t level, uint32_t permille) {
  int64_t most = worth(BUCKET_SAVED_NS, permille), least = -worth(BUCKET_DEBT_NS, permille);
  return level > most ? most : level < least ? least : level;
}

void bucket_fill(hami_usage_header *header, uint64_t frame_ns, uint32_t permille) {
  uint64_t at = __atomic_load_n(&header->bucket_at_ns, __ATOMIC_RELAXED);
  bool garbage = at > frame_ns && at - frame_ns > FAR_AHEAD_NS;
  if (at >= frame_ns && !garbage) return;
  if (!__atomic_compare_exchange_n(&header->bucket_at_ns, &at, frame_ns, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
  uint64_t passed = garbage ? 0 : frame_ns - at;
  /* Even the deepest debt is paid after this long. */
  if (passed > BUCKET_DEBT_NS + BUCKET_SAVED_NS) passed = BUCKET_DEBT_NS + BUCKET_SAVED_NS;
  int64_t level = __atomic_load_n(&header->bucket_ns, __ATOMIC_RELAXED), filled;
  do {
    filled = clamp(clamp(level, permille) + worth(passed, permille), permille);
  } while (!__atomic_compare_exchange_n(&header->bucket_ns, &level, filled, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

int64_t bucket_level(const hami_usage_header *header, uint32_t permille) {
  return clamp(__atomic_load_n(&header->bucket_ns, __ATOMIC_RELAXED), permille);
}

void bucket_charge(hami_usage_header *header, int64_t gpu_ns) {
  (void)__atomic_sub_fetch(&header->bucket_ns, gpu_ns, __ATOMIC_RELAXED);
}

uint64_t bucket_wait_ns(int64_t level, uint32_t permille) {
  if (level > 0 || permille == 0) return 0;
  return (uint64_t)(1 - level) / permille * 1000u + 1000u;
}
