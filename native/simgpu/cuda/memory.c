#include "memory.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pool.h"

#define PAGE_BYTES 4096u

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *tree; /* of memory, ordered by address; ranges never overlap */
static memory *all;
static unsigned long long last_id;

/* Overlapping ranges are equal, so that any address finds its range. */
static int compare(const void *left, const void *right) {
  const memory *a = left;
  const memory *b = right;
  if (a->base + a->size <= b->base) return -1;
  return b->base + b->size <= a->base ? 1 : 0;
}

static memory *find_locked(uintptr_t address) {
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
  tdelete(range, &tree, compare);
  if (range->previous != NULL) range->previous->next = range->next;
  if (range->next != NULL) range->next->previous = range->previous;
  if (all == range) all = range->next;
}

static size_t mapping_size(size_t size) { return (size + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1); }

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

static bool owns_pages(const memory *range) {
  return (range->kind & (MEMORY_DEVICE | MEMORY_MANAGED | MEMORY_HOST | MEMORY_ARRAY)) != 0;
}

/* What is left of a range that is no longer recorded. */
static void dispose(memory *range) {
  if (owns_pages(range)) munmap((void *)range->base, mapping_size(range->size));
  drop_charge(range);
  free(range);
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

static CUresult insert(memory *range) {
  pthread_mutex_lock(&mutex);
  range->id = ++last_id;
  void *node = tsearch(range, &tree, compare);
  bool alone = node != NULL && *(memory **)node == range;
  if (alone) link_locked(range);
  pthread_mutex_unlock(&mutex);
  if (node == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  return alone ? CUDA_SUCCESS : CUDA_ERROR_ALREADY_MAPPED;
}

CUresult memory_record(const memory *wanted) {
  memory *range = malloc(sizeof *range);
  if (range == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  *range = *wanted;
  CUresult result = insert(range);
  if (result != CUDA_SUCCESS) free(range);
  return result;
}

CUresult memory_new(const memory *wanted, uintptr_t *address) {
  NEED(wanted->size > 0);
  if (wanted->size > SIZE_MAX / 2) return CUDA_ERROR_OUT_OF_MEMORY;
  memory *range = malloc(sizeof *range);
  if (range == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  *range = *wanted;
  CUresult result = take_charge(range);
  if (result != CUDA_SUCCESS) {
    free(range);
    return result;
  }
  void *pages =
      mmap(NULL, mapping_size(range->size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) {
    drop_charge(range);
    free(range);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  range->base = (uintptr_t)pages;
  result = insert(range);
  if (result == CUDA_SUCCESS)
    *address = (uintptr_t)pages;
  else
    dispose(range);
  return result;
}

/* Takes a range out of the set. */
static memory *take(uintptr_t address, unsigned int kinds) {
  pthread_mutex_lock(&mutex);
  memory *range = find_locked(address);
  if (range != NULL && (range->base != address || (range->kind & kinds) == 0)) range = NULL;
  if (range != NULL) unlink_locked(range);
  pthread_mutex_unlock(&mutex);
  return range;
}

CUresult memory_free(uintptr_t address, unsigned int kinds) {
  memory *range = take(address, kinds);
  NEED(range != NULL);
  dispose(range);
  return CUDA_SUCCESS;
}

bool memory_forget(uintptr_t address, unsigned int kinds, memory *gone) {
  memory *range = take(address, kinds);
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
    if (range->context != context || !owns_pages(range) || range->kind == MEMORY_HOST) continue;
    unlink_locked(range);
    range->next = gone;
    gone = range;
  }
  pthread_mutex_unlock(&mutex);
  for (memory *next; gone != NULL; gone = next) {
    next = gone->next;
    dispose(gone);
  }
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

/* Whether the bytes are all recorded and accessible; a copy may span mappings that lie side by side. */
static bool covered(uintptr_t address, size_t size) {
  bool good = true;
  pthread_mutex_lock(&mutex);
  while (good && size > 0) {
    const memory *range = find_locked(address);
    good = range != NULL && !range->inaccessible;
    if (!good) break;
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
  NEED(size == 0 || covered((uintptr_t)address, size));
  return CUDA_SUCCESS;
}

CUresult memory_check_any(CUdeviceptr address, size_t size) {
  memory range;
  if (size == 0 || !memory_find((uintptr_t)address, &range)) return CUDA_SUCCESS;
  return memory_check_device(address, size);
}
