#include "pool.h"

#include <stdatomic.h>
#include <string.h>

#include "admit.h"
#include "driver.h"
#include "prim.h"

enum { MOST_POOLS = 1024, NOT_OURS = UINT16_MAX };
static const uint64_t LOOK_NS = 100000u; /* a look at a pool takes less */

struct pool {
  CUmemoryPool handle; /* NULL: free */
  CUdevice device;
  atomic_bool closing; /* the program destroyed it, the driver still holds memory for it */
  _Atomic uint32_t users;
  struct account account;
};

static struct pool pools[MOST_POOLS];
static guard_lock table_lock;       /* guards handles and the count */
static _Atomic uint32_t pool_count; /* entries below may be in use */
static atomic_bool any_slack;

void pool_reset(void) {
  for (uint32_t i = 0; i < atomic_load(&pool_count); i++) memset(&pools[i], 0, sizeof pools[i]);
  atomic_store(&pool_count, 0);
  atomic_store(&any_slack, false);
  table_lock.word = 0;
}

/* What the driver keeps for the pool; false when it does not say. */
static bool reserved_of(CUmemoryPool handle, uint64_t *bytes) {
  cuMemPoolGetAttribute_fn *ask = DRIVER(cuMemPoolGetAttribute);
  return ask != NULL && ask(handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, bytes) == CUDA_SUCCESS;
}

static bool ask(struct pool *pool, int64_t handed, uint64_t admitted) {
  uint64_t ticket = account_question(&pool->account), reserved = 0;
  if (!reserved_of(pool->handle, &reserved)) reserved = 0;
  bool fits = account_answer(&pool->account, ticket, reserved, handed, admitted);
  if (account_has_slack(&pool->account)) atomic_store_explicit(&any_slack, true, memory_order_relaxed);
  return fits;
}

/* Where a pool that nobody told us about lies: a default pool, or taken to be the device's that it is used on. */
static CUdevice device_of_handle(CUmemoryPool handle, CUdevice otherwise) {
  cuDeviceGetCount_fn *count_of = DRIVER(cuDeviceGetCount);
  cuDeviceGetDefaultMemPool_fn *default_of = DRIVER(cuDeviceGetDefaultMemPool);
  int count = 0;
  if (count_of == NULL || default_of == NULL || count_of(&count) != CUDA_SUCCESS) return otherwise;
  for (int i = 0; i < count; i++) {
    CUmemoryPool candidate = NULL;
    if (default_of(&candidate, i) == CUDA_SUCCESS && candidate == handle) return i;
  }
  return otherwise;
}

static struct pool *known(CUmemoryPool handle, bool *found) {
  ledger_entry entry;
  *found = ledger_get(LEDGER_POOL, (uintptr_t)handle, &entry);
  return *found && entry.share != NOT_OURS ? &pools[entry.share] : NULL;
}

static bool remember(CUmemoryPool handle, uint16_t index) {
  ledger_entry replaced, entry = {.key = (uintptr_t)handle, .share = index, .kind = LEDGER_POOL};
  return ledger_put(&entry, &replaced);
}

uint64_t pool_granule(CUdevice device) {
  cuMemGetAllocationGranularity_fn *ask_driver = DRIVER(cuMemGetAllocationGranularity);
  CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                              .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device}};
  size_t bytes = 0;
  bool known = ask_driver != NULL && ask_driver(&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM) == CUDA_SUCCESS;
  return known && bytes != 0 ? bytes : 1;
}

/* With the table's lock. */
static struct pool *enter(CUmemoryPool handle, CUdevice device, share_set shares, uint64_t granule) {
  uint32_t at = 0, count = atomic_load(&pool_count);
  while (at < count && pools[at].handle != NULL) at++;
  if (at == MOST_POOLS || !remember(handle, (uint16_t)at)) return NULL;
  pools[at].device = device;
  atomic_store(&pools[at].closing, false);
  account_open(&pools[at].account, shares, granule);
  pools[at].handle = handle;
  if (at == count) atomic_store(&pool_count, count + 1);
  return &pools[at];
}

CUresult pool_find(CUmemoryPool handle, CUdevice on_device, struct pool **out) {
  bool found;
  *out = known(handle, &found);
  if (found) return *out != NULL && atomic_load(&(*out)->closing) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  CUdevice device = device_of_handle(handle, on_device);
  share_set shares;
  CUresult result = admit_shares(device, &shares);
  if (result != CUDA_SUCCESS || shares == 0) return result;
  uint64_t granule = pool_granule(device);
  GUARD_HOLD(&table_lock);
  *out = known(handle, &found);
  if (!found) *out = enter(handle, device, shares, granule);
  return *out != NULL || found ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUmemoryPool pool_current(CUdevice device) {
  cuDeviceGetMemPool_fn *current = DRIVER(cuDeviceGetMemPool);
  CUmemoryPool pool = NULL;
  return current != NULL && current(&pool, device) == CUDA_SUCCESS ? pool : NULL;
}

/* ---- allocations ---- */

CUresult pool_admit(struct pool_order *order) {
  __typeof__(&cuStreamSynchronize) wait = REAL(cuStreamSynchronize);
  struct pool *pool = order->pool;
  for (int effort = 0; effort < (order->may_wait && wait != NULL ? 3 : 2); effort++) {
    if (effort == 2) (void)wait(order->stream);
    if (effort > 0) admit_reclaim(pool->device);
    if (account_begin(&pool->account, order->bytes, &order->admitted) == 0) return CUDA_SUCCESS;
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUdevice pool_device(const struct pool *pool) { return pool->device; }

bool pool_settle(const struct pool_order *order, bool granted) {
  return ask(order->pool, granted ? (int64_t)order->bytes : 0, order->admitted);
}

void pool_freed(CUmemoryPool handle, uint64_t bytes) {
  bool found;
  struct pool *pool = known(handle, &found);
  if (pool != NULL) (void)ask(pool, -(int64_t)bytes, 0);
}

/* ---- what is kept ---- */

/* Keeps a pool from being destroyed while it is looked at; NULL when there is none in this place. */
static struct pool *hold(uint32_t index) {
  GUARD_HOLD(&table_lock);
  struct pool *pool = &pools[index];
  if (pool->handle == NULL) return NULL;
  atomic_fetch_add(&pool->users, 1);
  return pool;
}

static void let_go(struct pool *pool) { atomic_fetch_sub(&pool->users, 1); }

/* Takes a pool out of the table; its handle is the caller's to destroy.  NULL when somebody else did. */
static CUmemoryPool take_out(struct pool *pool) {
  static uint32_t nap;
  ledger_entry entry;
  CUmemoryPool handle;
  {
    GUARD_HOLD(&table_lock);
    handle = pool->handle;
    if (handle == NULL || !ledger_take(LEDGER_POOL, (uintptr_t)handle, &entry)) return NULL;
    pool->handle = NULL;
  }
  while (atomic_load(&pool->users) != 0) prim_futex_wait(&nap, 0, LOOK_NS, false);
  account_close(&pool->account);
  return handle;
}

static bool is_empty(struct pool *pool) {
  uint64_t reserved = 0;
  return !reserved_of(pool->handle, &reserved) || reserved == 0;
}

/* A pool that the program destroyed goes when the driver holds nothing for it any more. */
static void bury(struct pool *pool) {
  __typeof__(&cuMemPoolDestroy) destroy = REAL(cuMemPoolDestroy);
  CUmemoryPool handle = destroy != NULL ? take_out(pool) : NULL;
  if (handle != NULL) (void)destroy(handle);
}

static void look_again(struct pool *pool, bool trim) {
  __typeof__(&cuMemPoolTrimTo) trim_to = REAL(cuMemPoolTrimTo);
  if (trim && trim_to != NULL) (void)trim_to(pool->handle, 0);
  (void)ask(pool, 0, 0);
}

static void each(CUdevice device, bool trim) {
  for (uint32_t i = 0; i < atomic_load(&pool_count); i++) {
    struct pool *pool = hold(i);
    if (pool == NULL) continue;
    bool wanted = (device < 0 || pool->device == device) && (account_has_slack(&pool->account) || pool->closing);
    if (wanted) look_again(pool, trim);
    bool dead = wanted && pool->closing && is_empty(pool);
    let_go(pool);
    if (dead) bury(pool);
  }
}

void pool_refresh(void) {
  if (!atomic_load_explicit(&any_slack, memory_order_relaxed)) return;
  atomic_store_explicit(&any_slack, false, memory_order_relaxed);
  each(-1, false);
}

void pool_trim(CUdevice device) { each(device, true); }

void pool_context_ended(CUdevice device) {
  for (uint32_t i = 0; i < atomic_load(&pool_count); i++) {
    struct pool *pool = hold(i);
    if (pool == NULL) continue;
    uint64_t reserved;
    if (pool->device == device && reserved_of(pool->handle, &reserved)) {
      look_again(pool, false);
      account_clamp(&pool->account);
      ledger_entry gone;
      while (reserved == 0 && ledger_take_owned(LEDGER_POINTER, (uintptr_t)pool->handle, &gone)) continue;
    }
    let_go(pool);
  }
}

/* ---- destruction ---- */

/* As the driver would: the device's allocations without a pool come from the default one again. */
static void leave_current(struct pool *pool) {
  cuDeviceGetDefaultMemPool_fn *default_of = DRIVER(cuDeviceGetDefaultMemPool);
  cuDeviceSetMemPool_fn *set = DRIVER(cuDeviceSetMemPool);
  CUmemoryPool first = NULL;
  if (pool_current(pool->device) != pool->handle || default_of == NULL || set == NULL) return;
  if (default_of(&first, pool->device) == CUDA_SUCCESS) (void)set(pool->device, first);
}

CUresult pool_destroy(CUmemoryPool handle, pool_destroy_fn *destroy) {
  bool found;
  struct pool *pool = known(handle, &found);
  if (pool == NULL) {
    ledger_entry entry;
    CUresult result = destroy(handle);
    if (found && result == CUDA_SUCCESS) (void)ledger_take(LEDGER_POOL, (uintptr_t)handle, &entry);
    return result;
  }
  if (pool->closing) return CUDA_ERROR_INVALID_VALUE;
  __typeof__(&cuMemPoolTrimTo) trim_to = REAL(cuMemPoolTrimTo);
  CUresult result = trim_to != NULL ? trim_to(handle, 0) : CUDA_SUCCESS; /* also says whether it is a pool at all */
  if (result != CUDA_SUCCESS) return result;
  pool->closing = true;
  (void)ask(pool, 0, 0);
  if (is_empty(pool) && !account_is_used(&pool->account)) {
    CUmemoryPool own = take_out(pool);
    return own != NULL ? destroy(own) : CUDA_ERROR_INVALID_VALUE;
  }
  leave_current(pool);
  cuMemPoolSetAttribute_fn *set = DRIVER(cuMemPoolSetAttribute);
  uint64_t threshold = 0;
  if (set != NULL) (void)set(handle, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold);
  atomic_store_explicit(&any_slack, true, memory_order_relaxed);
  return CUDA_SUCCESS;
}

void pool_ignore(CUmemoryPool handle) { (void)remember(handle, NOT_OURS); }
