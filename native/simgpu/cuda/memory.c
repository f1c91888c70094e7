#include "memory.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "pool.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *tree;  /* of ranges that are not the arena's, ordered by address */
static memory *all; /* of the arena */
static unsigned long long last_id;

/* Overlapping ranges are equal, so that any address finds its range. */
static int compare(const void *left, const void *right) {
  const memory *a = left;
  const memory *b = right;
  if (a->base + a->size <= b->base) return -1;
  return b->base + b->size <= a->base ? 1 : 0;
}

static memory *find_locked(uintptr_t address) {
  memory *range = arena_find(address);
  if (range != NULL || tree == NULL) return range;
  memory key = {.base = address, .size = 1};
  void *node = tfind(&key, &tree, compare);
  return node != NULL ? *(memory **)node : NULL;
}

static void link_locked(memory *range) {
  range->previous = NULL;
  range->next = all;
  if (all != NULL) all->previous = range;
  all = range;
}

static void unlink_locked(memory *range) {
  if (range->previous != NULL) range->previous->next = range->next;
  if (range->next != NULL) range->next->previous = range->previous;
  if (all == range) all = range->next;
}

/* ---- charges ----------------------------------------------------------------------------------------------------- */

static CUresult take_charge(memory *range) {
  uint32_t card = the_driver.devices[range->ordinal].card;
  switch (range->kind) {
    case MEMORY_DEVICE:
    case MEMORY_ARRAY:
      TRY(driver_error(sim_charge(&the_driver.session, card, range->size)));
      range->charged_bytes = range->size;
      if (range->pool != NULL) pool_count(range->pool, (int64_t)range->size);
      return CUDA_SUCCESS;
    case MEMORY_MANAGED:
      /* What the card has no room for stays in host memory. */
      return driver_error(sim_charge_upto(&the_driver.session, card, range->size, &range->charged_bytes));
    default: return CUDA_SUCCESS;
  }
}

static void drop_charge(const memory *range) {
  if (range->charged_bytes == 0) return;
  sim_discharge(&the_driver.session, the_driver.devices[range->ordinal].card, range->charged_bytes);
  if (range->pool != NULL) pool_count(range->pool, -(int64_t)range->size);
}

static bool of_arena(const memory *range) {
  return (range->kind & (MEMORY_DEVICE | MEMORY_MANAGED | MEMORY_HOST | MEMORY_ARRAY)) != 0;
}

/* Programs reach managed and host memory without the driver. */
static bool written_unseen(const memory *range) { return (range->kind & (MEMORY_MANAGED | MEMORY_HOST)) != 0; }

/* ---- changes ----------------------------------------------------------------------------------------------------- */

CUresult memory_record(const memory *wanted) {
  memory *range = malloc(sizeof *range);
  if (range == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  *range = *wanted;
  pthread_mutex_lock(&mutex);
  range->id = ++last_id;
  bool alone = arena_find(range->base) == NULL && arena_find(range->base + range->size - 1) == NULL;
  void *node = alone ? tsearch(range, &tree, compare) : NULL;
  CUresult result = !alone || (node != NULL && *(memory **)node != range) ? CUDA_ERROR_ALREADY_MAPPED
                    : node == NULL                                        ? CUDA_ERROR_OUT_OF_MEMORY
                                                                          : CUDA_SUCCESS;
  pthread_mutex_unlock(&mutex);
  if (result != CUDA_SUCCESS) free(range);
  return result;
}

CUresult memory_new(const memory *wanted, uintptr_t *address) {
  NEED(wanted->size > 0);
  if (wanted->size > SIZE_MAX / 2) return CUDA_ERROR_OUT_OF_MEMORY;
  memory made = *wanted;
  TRY(take_charge(&made));
  pthread_mutex_lock(&mutex);
  memory *range = arena_take(made.size);
  if (range != NULL) {
    made.base = range->base;
    made.id = ++last_id;
    made.touched = written_unseen(&made);
    *range = made;
    link_locked(range);
    *address = range->base;
  }
  pthread_mutex_unlock(&mutex);
  if (range != NULL) return CUDA_SUCCESS;
  drop_charge(&made);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Gives a block back that is in the list no more; comes and goes with the mutex held. */
static void give_locked(memory *range) {
  range->kind = MEMORY_NONE;
  if (arena_must_clear(range)) {
    pthread_mutex_unlock(&mutex);
    arena_clear(range);
    pthread_mutex_lock(&mutex);
  }
  arena_give(range);
}

CUresult memory_free(uintptr_t address, unsigned int kinds) {
  pthread_mutex_lock(&mutex);
  memory *range = arena_find(address);
  bool found = range != NULL && range->base == address && (range->kind & kinds) != 0;
  memory gone = {.size = 0};
  if (found) {
    gone = *range;
    unlink_locked(range);
    give_locked(range);
  }
  pthread_mutex_unlock(&mutex);
  NEED(found);
  drop_charge(&gone);
  return CUDA_SUCCESS;
}

bool memory_forget(uintptr_t address, unsigned int kinds, memory *gone) {
  pthread_mutex_lock(&mutex);
  memory *range = find_locked(address);
  if (range != NULL && (range->base != address || (range->kind & kinds) == 0 || of_arena(range))) range = NULL;
  if (range != NULL) tdelete(range, &tree, compare);
  pthread_mutex_unlock(&mutex);
  if (range == NULL) return false;
  *gone = *range;
  free(range);
  return true;
}

void memory_release_context(CUcontext context) {
  memory *gone = NULL;
  pthread_mutex_lock(&mutex);
  for (memory *range = all, *next; range != NULL; range = next) {
    next = range->next;
    if (range->context != context || range->kind == MEMORY_HOST) continue;
    unlink_locked(range);
    range->kind = MEMORY_NONE;
    range->next = gone;
    gone = range;
  }
  for (memory *next; gone != NULL; gone = next) {
    next = gone->next;
    memory freed = *gone;
    give_locked(gone);
    pthread_mutex_unlock(&mutex);
    drop_charge(&freed);
    pthread_mutex_lock(&mutex);
  }
  pthread_mutex_unlock(&mutex);
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

bool memory_find(uintptr_t address, memory *copy) {
  pthread_mutex_lock(&mutex);
  const memory *range = find_locked(address);
  if (range != NULL) *copy = *range;
  pthread_mutex_unlock(&mutex);
  return range != NULL;
}

bool memory_set_accessible(uintptr_t address, bool accessible) {
  pthread_mutex_lock(&mutex);
  memory *range = find_locked(address);
  if (range != NULL) range->inaccessible = !accessible;
  pthread_mutex_unlock(&mutex);
  return range != NULL;
}

/* Whether the bytes are all recorded and accessible, which somebody asks who is about to touch them; a copy may span mappings that lie side by side. */
static bool cover(uintptr_t address, size_t size) {
  bool good = true;
  pthread_mutex_lock(&mutex);
  while (good && size > 0) {
    memory *range = find_locked(address);
    good = range != NULL && !range->inaccessible;
    if (!good) break;
    range->touched = true;
    size_t here = range->size - (address - range->base);
    /* Only pieces of a reservation may have neighbours. */
    good = here >= size || range->kind == MEMORY_MAPPED;
    size -= here < size ? here : size;
    address += here;
  }
  pthread_mutex_unlock(&mutex);
  return good;
}

CUresult memory_check_device(CUdeviceptr address, size_t size) {
  NEED(size == 0 || cover((uintptr_t)address, size));
  return CUDA_SUCCESS;
}

CUresult memory_check_any(CUdeviceptr address, size_t size) {
  memory range;
  if (size == 0 || !memory_find((uintptr_t)address, &range)) return CUDA_SUCCESS;
  return memory_check_device(address, size);
}
