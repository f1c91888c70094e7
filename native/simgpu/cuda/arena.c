#include "arena.h"

#include <stdlib.h>
#include <sys/mman.h>

#define SPAN_SHIFT 25u
#define SPAN_BYTES ((size_t)1 << SPAN_SHIFT)
#define LEAST_SHIFT 12u
#define CLASSES (SPAN_SHIFT - LEAST_SHIFT + 1u)
#define ADDRESS_BITS 48u
#define TABLE_ENTRIES ((size_t)1 << (ADDRESS_BITS - SPAN_SHIFT))
#define MOST_WIDE_SPANS 32u /* free ones that stay mapped */
#define MOST_KEPT_BYTES (64u << 10)

typedef struct span {
  uintptr_t base;
  size_t size;
  unsigned int shift; /* of its blocks; SPAN_SHIFT + 1: one block */
  size_t carved;      /* blocks that have ever been handed out */
  size_t blocks;
  memory *records;
} span;

static span **table;
static memory *free_blocks[CLASSES];
static span *open_spans[CLASSES]; /* where blocks can still be carved */
static memory *wide_spans;        /* free ones, latest first */
static unsigned int wide_span_count;

static void *map(size_t size) {
  void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return pages == MAP_FAILED ? NULL : pages;
}

/* Maps `size` bytes, a multiple of SPAN_BYTES, on such a boundary. */
static uintptr_t map_aligned(size_t size) {
  uintptr_t start = (uintptr_t)map(size + SPAN_BYTES);
  if (start == 0) return 0;
  uintptr_t base = (start + SPAN_BYTES - 1) & ~(SPAN_BYTES - 1);
  if (base > start) munmap((void *)start, base - start);
  if (start + SPAN_BYTES > base) munmap((void *)(base + size), start + SPAN_BYTES - base);
  /* A byte that is touched should cost a page, not two megabytes. */
  madvise((void *)base, size, MADV_NOHUGEPAGE);
  return base;
}

static void enter_in_table(const span *of, span *value) {
  for (size_t i = 0; i < of->size >> SPAN_SHIFT; i++) table[(of->base >> SPAN_SHIFT) + i] = value;
}

static void unmap(span *gone) {
  enter_in_table(gone, NULL);
  munmap((void *)gone->base, gone->size);
  munmap(gone->records, gone->blocks * sizeof *gone->records);
  free(gone);
}

static span *make_span(size_t size, unsigned int shift) {
  if (table == NULL) table = map(TABLE_ENTRIES * sizeof *table);
  span *made = table != NULL ? calloc(1, sizeof *made) : NULL;
  if (made == NULL) return NULL;
  made->size = size;
  made->shift = shift;
  made->blocks = shift > SPAN_SHIFT ? 1 : size >> shift;
  made->records = map(made->blocks * sizeof *made->records);
  if (made->records != NULL) made->base = map_aligned(size);
  if (made->base == 0 || (made->base + size - 1) >> ADDRESS_BITS != 0) {
    if (made->records != NULL) munmap(made->records, made->blocks * sizeof *made->records);
    if (made->base != 0) munmap((void *)made->base, size);
    free(made);
    return NULL;
  }
  enter_in_table(made, made);
  return made;
}

static memory *carve(span *from) {
  memory *range = &from->records[from->carved];
  range->base = from->base + (from->carved << from->shift);
  from->carved++;
  return range;
}

static unsigned int shift_for(size_t size) {
  if (size <= (size_t)1 << LEAST_SHIFT) return LEAST_SHIFT;
  return 64u - (unsigned int)__builtin_clzll((unsigned long long)size - 1);
}

static span *span_of(uintptr_t address) {
  return table != NULL && address >> ADDRESS_BITS == 0 ? table[address >> SPAN_SHIFT] : NULL;
}

/* ---- blocks of more than a span ---------------------------------------------------------------------------------- */

static memory *take_wide(size_t size) {
  size = (size + SPAN_BYTES - 1) & ~(SPAN_BYTES - 1);
  for (memory **link = &wide_spans; *link != NULL; link = &(*link)->next) {
    memory *range = *link;
    if (span_of(range->base)->size != size) continue;
    *link = range->next;
    wide_span_count--;
    return range;
  }
  span *made = make_span(size, SPAN_SHIFT + 1);
  if (made == NULL) return NULL;
  made->carved = 1;
  made->records->base = made->base;
  return made->records;
}

static void give_wide(memory *range) {
  range->next = wide_spans;
  wide_spans = range;
  if (++wide_span_count <= MOST_WIDE_SPANS) return;
  memory **link = &wide_spans;
  while ((*link)->next != NULL) link = &(*link)->next;
  span *oldest = span_of((*link)->base);
  *link = NULL;
  wide_span_count--;
  unmap(oldest);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

memory *arena_take(size_t size) {
  unsigned int shift = shift_for(size);
  if (shift > SPAN_SHIFT) return take_wide(size);
  unsigned int class = shift - LEAST_SHIFT;
  memory *range = free_blocks[class];
  if (range != NULL) {
    free_blocks[class] = range->next;
    return range;
  }
  span *from = open_spans[class];
  if (from == NULL || from->carved == from->blocks) from = open_spans[class] = make_span(SPAN_BYTES, shift);
  return from != NULL ? carve(from) : NULL;
}

void arena_give(memory *range) {
  const span *from = span_of(range->base);
  range->kind = MEMORY_NONE;
  if (from->shift > SPAN_SHIFT) {
    give_wide(range);
  } else {
    unsigned int class = from->shift - LEAST_SHIFT;
    range->next = free_blocks[class];
    free_blocks[class] = range;
  }
}

memory *arena_find(uintptr_t address) {
  const span *from = span_of(address);
  if (from == NULL) return NULL;
  size_t index = from->blocks == 1 ? 0 : (address - from->base) >> from->shift;
  memory *range = index < from->carved ? &from->records[index] : NULL;
  return range != NULL && range->kind != MEMORY_NONE && address - range->base < range->size ? range : NULL;
}

bool arena_must_clear(const memory *range) { return range->touched && range->size > MOST_KEPT_BYTES; }

void arena_clear(const memory *range) { madvise((void *)range->base, range->size, MADV_DONTNEED); }

void arena_take_back(const memory *range) {
  mmap((void *)range->base, range->size, PROT_READ | PROT_WRITE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}
