#include "busy.h"

enum { CELLS = 32 };

static uint64_t mark_word(uint64_t *word, uint32_t piece, uint32_t cells) {
  uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED), marked;
  uint32_t before;
  do {
    uint32_t of = (uint32_t)(seen >> 32);
    if (of != piece && (int32_t)(of - piece) > 0) return (uint64_t)__builtin_popcount(cells); /* we are too late */
    before = of == piece ? (uint32_t)seen : 0;
    marked = (uint64_t)piece << 32 | before | cells;
    if (marked == seen) return 0;
  } while (!__atomic_compare_exchange_n(word, &seen, marked, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return (uint64_t)__builtin_popcount(cells & ~before);
}

static uint64_t mark_cells(uint64_t *words, uint64_t first, uint64_t end) {
  uint64_t found = 0;
  while (first < end) {
    uint64_t piece = first / CELLS, last = (piece + 1) * CELLS < end ? (piece + 1) * CELLS : end;
    uint32_t cells = (uint32_t)(((UINT64_C(1) << (last - first)) - 1) << first % CELLS);
    found += mark_word(&words[piece % HAMI_USAGE_BUSY_WORDS], (uint32_t)piece, cells);
    first = last;
  }
  return found;
}

uint64_t busy_mark(uint64_t words[HAMI_USAGE_BUSY_WORDS], uint64_t from_ns, uint64_t to_ns) {
  if (to_ns <= from_ns) return 0;
  uint64_t window = BUSY_WINDOW_NS / 4 * 3, before = 0;
  if (to_ns - from_ns > window) {
    before = to_ns - from_ns - window;
    from_ns = to_ns - window;
  }
  /* Rounded alike at both ends: intervals that follow each other neither overlap nor leave a gap. */
  uint64_t first = (from_ns + BUSY_CELL_NS / 2) / BUSY_CELL_NS, end = (to_ns + BUSY_CELL_NS / 2) / BUSY_CELL_NS;
  return before + mark_cells(words, first, end) * BUSY_CELL_NS;
}
