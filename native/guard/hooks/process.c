#include "process.h"

#include <stdatomic.h>
#include <stdint.h>

#include "device.h"
#include "exports.h"
#include "gate.h"
#include "graph.h"
#include "imports.h"
#include "ledger.h"
#include "limiter.h"
#include "overhead.h"
#include "pool.h"
#include "prim.h"
#include "share.h"

/* The state word: phase in the low two bits, above them the pid where the kernel does not wipe the page. */
enum { FRESH = 0, SETTING_UP = 1, READY = 2, PHASE_MASK = 3, PID_SHIFT = 2, PAGE_SIZE = 4096 };
static const uint64_t SETUP_NAP_NS = 1000000u;

_Thread_local unsigned gate_depth;

struct process_page {
  uint32_t state;
};

static _Atomic(struct process_page *) current_page;
static struct process_page page_of_last_resort;
static atomic_bool page_is_not_wiped;

static struct process_page *page(void) {
  struct process_page *found = atomic_load_explicit(&current_page, memory_order_acquire);
  if (found != NULL) return found;
  struct process_page *pages = prim_pages(PAGE_SIZE);
  struct process_page *made = pages != NULL ? pages : &page_of_last_resort;
  if (pages == NULL || !prim_wipe_on_fork(pages, PAGE_SIZE)) atomic_store(&page_is_not_wiped, true);
  if (atomic_compare_exchange_strong(&current_page, &found, made)) return made;
  prim_unmap(pages, PAGE_SIZE);
  return found;
}

static uint32_t identity(void) {
  if (!atomic_load_explicit(&page_is_not_wiped, memory_order_relaxed)) return 0;
  return (uint32_t)prim_pid() << PID_SHIFT;
}

static void set_up(struct process_page *where) {
  uint32_t self = identity();
  for (;;) {
    uint32_t state = __atomic_load_n(&where->state, __ATOMIC_ACQUIRE);
    bool own = (state & ~(uint32_t)PHASE_MASK) == self;
    if (own && (state & PHASE_MASK) == READY) return;
    if (own && (state & PHASE_MASK) == SETTING_UP) {
      prim_futex_wait(&where->state, state, SETUP_NAP_NS, false);
      continue;
    }
    if (!__atomic_compare_exchange_n(&where->state, &state, self | SETTING_UP, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
      continue;
    ledger_reset();
    device_reset();
    export_reset();
    import_reset();
    overhead_reset();
    pool_reset();
    graph_reset();
    share_reset();
    compute_reset();
    __atomic_store_n(&where->state, self | READY, __ATOMIC_RELEASE);
    prim_futex_wake(&where->state, INT32_MAX, false);
    return;
  }
}

bool process_is_limited(void) {
  struct process_page *where = page();
  if (__builtin_expect(__atomic_load_n(&where->state, __ATOMIC_ACQUIRE) != (identity() | READY), 0)) set_up(where);
  return share_count() != 0 || share_is_any_broken();
}
