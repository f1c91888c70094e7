#include "memory.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena.h"
#include "backing.h"
#include "pool.h"

#define PAGE_BYTES 4096u

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *tree; /* of ranges that are not the arena's, ordered by address */
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

static size_t mapping_size(size_t size) { return (size + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1); }

/* ---- charges ----------------------------------------------------------------------------------------------------- */

CUresult memory_charge(CUdevice ordinal, uint64_t bytes) {
  uint32_t card = the_driver.devices[ordinal].card;
  sim_status status = sim_charge(&the_driver.session, card, bytes);
  if (status == SIM_NO_SPACE && pool_release_unused(ordinal)) status = sim_charge(&the_driver.session, card, bytes);
  return driver_error(status);
}

void memory_discharge(CUdevice ordinal, uint64_t bytes) {
  sim_discharge(&the_driver.session, the_driver.devices[ordinal].card, bytes);
}

static CUresult take_charge(memory *range) {
  TRY(device_sound(range->ordinal));
  uint32_t card = the_driver.devices[range->ordinal].card;
  switch (range->kind) {
    case MEMORY_DEVICE:
    case MEMORY_ARRAY:
      if (range->pool != NULL) return pool_use(range->pool, range->size, range->queue);
      TRY(memory_charge(range->ordinal, range->size));
      range->charged_bytes = range->size;
      return CUDA_SUCCESS;
    case MEMORY_MANAGED:
      /* What the card has no room for stays in host memory. */
      return driver_error(sim_charge_upto(&the_driver.session, card, range->size, &range->charged_bytes));
    default: return CUDA_SUCCESS;
  }
}

static void drop_charge(const memory *range) {
  if (range->pool != NULL) pool_unuse(range->pool, range->size);
  if (range->shared && range->share.index != SIM_NO_SHARE.index) sim_share_drop(&the_driver.session, range->share);
  if (range->charged_bytes > 0)
    sim_discharge(&the_driver.session, the_driver.devices[range->ordinal].card, range->charged_bytes);
}

static bool of_arena(const memory *range) {
  return (range->kind & (MEMORY_DEVICE | MEMORY_MANAGED | MEMORY_HOST | MEMORY_ARRAY | MEMORY_GLOBAL)) != 0;
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
  if (result == CUDA_SUCCESS) link_locked(range);
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

/* Gives back what is in the list no more; comes and goes with the mutex held. */
static void give_locked(memory *range) {
  if (!of_arena(range)) {
    tdelete(range, &tree, compare);
    if ((range->kind & (MEMORY_IPC | MEMORY_EXTERNAL)) != 0) munmap((void *)range->base, mapping_size(range->size));
    free(range);
    return;
  }
  range->kind = MEMORY_NONE;
  if (range->shared) {
    arena_take_back(range);
    if (range->share.index != SIM_NO_SHARE.index) close(range->fd);
    range->shared = false;
  } else if (arena_must_clear(range)) {
    pthread_mutex_unlock(&mutex);
    arena_clear(range);
    pthread_mutex_lock(&mutex);
  }
  arena_give(range);
}

CUresult memory_free(uintptr_t address, unsigned int kinds) {
  pthread_mutex_lock(&mutex);
  memory *range = find_locked(address);
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
  if (range != NULL && (range->base != address || (range->kind & kinds) == 0)) range = NULL;
  if (range != NULL) {
    *gone = *range;
    unlink_locked(range);
    give_locked(range);
  }
  pthread_mutex_unlock(&mutex);
  return range != NULL;
}

CUmemoryPool memory_leave_pool(uintptr_t base) {
  pthread_mutex_lock(&mutex);
  memory *range = find_locked(base);
  CUmemoryPool pool = range != NULL && range->base == base ? range->pool : NULL;
  if (pool != NULL) range->pool = NULL;
  pthread_mutex_unlock(&mutex);
  return pool;
}

void memory_release_context(CUcontext context) {
  memory *gone = NULL;
  pthread_mutex_lock(&mutex);
  for (memory *range = all, *next; range != NULL; range = next) {
    next = range->next;
    if (range->context != context || range->kind == MEMORY_HOST) continue;
    unlink_locked(range);
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

int memory_set_access(uintptr_t address, CUdevice ordinal, CUmemAccess_flags flags) {
  const uint32_t device = UINT32_C(1) << ordinal;
  int allowed = PROT_NONE;
  pthread_mutex_lock(&mutex);
  memory *range = find_locked(address);
  if (range != NULL) {
    range->read_only = flags == CU_MEM_ACCESS_FLAGS_PROT_READ ? range->read_only | device : range->read_only & ~device;
    range->writable =
        flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? range->writable | device : range->writable & ~device;
    range->inaccessible = (range->read_only | range->writable) == 0;
    allowed = range->writable != 0 ? PROT_READ | PROT_WRITE : range->read_only != 0 ? PROT_READ : PROT_NONE;
  }
  pthread_mutex_unlock(&mutex);
  return allowed;
}

static bool blank(const unsigned char *page) {
  static const unsigned char ZEROS[PAGE_BYTES];
  return memcmp(page, ZEROS, PAGE_BYTES) == 0;
}

/* Pages that hold nothing take no room in the file. */
static bool copy_to_file(const memory *range, int fd, uint64_t offset) {
  for (size_t at = 0; range->touched && at < range->size; at += PAGE_BYTES) {
    const unsigned char *page = (const unsigned char *)range->base + at;
    if (!blank(page) && pwrite(fd, page, PAGE_BYTES, (off_t)(offset + at)) != (ssize_t)PAGE_BYTES) return false;
  }
  return true;
}

CUresult memory_move_to_file(uintptr_t address, int fd, uint64_t offset, sim_share_name share) {
  CUresult result = CUDA_ERROR_INVALID_VALUE;
  pthread_mutex_lock(&mutex);
  memory *range = arena_find(address);
  if (range != NULL && range->base == address && range->kind == MEMORY_DEVICE && !range->shared) {
    result = CUDA_ERROR_OUT_OF_MEMORY;
    if (copy_to_file(range, fd, offset) &&
        backing_map(fd, offset, mapping_size(range->size), (void *)range->base) != NULL) {
      range->shared = true;
      range->fd = fd;
      range->offset = offset;
      range->share = share;
      if (share.index != SIM_NO_SHARE.index) range->charged_bytes = 0;
      result = CUDA_SUCCESS;
    }
  }
  pthread_mutex_unlock(&mutex);
  return result;
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
