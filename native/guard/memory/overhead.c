#include "overhead.h"

#include <stdatomic.h>
#include <string.h>

#include "account.h"
#include "admit.h"
#include "driver.h"
#include "flight.h"
#include "identity.h"
#include "imports.h"
#include "prim.h"

enum { DEVICES = 64, LOOKS = 3 };
static const uint64_t NAP_NS = 1000000u;
static const uint64_t PATIENCE_NS = 10000000000u; /* for another process that makes the share's first context */
static const uint64_t SELDOM_NS = 500000000u;

struct overhead {
  guard_lock
      lock; /* around every change of the account, with what goes with it; never held across a call of the driver */
  struct account account; /* reserved: the contexts' charges and the rest; nothing of it is handed out */
  uint64_t contexts;      /* charged for contexts, alive or under way */
  uint64_t ended;         /* refunded for contexts, ever */
  _Atomic uint64_t measured_ns;
  _Atomic uint64_t size; /* of a context, and one; 0 while it is not known */
  atomic_bool learning;  /* a thread of this process finds it out */
  atomic_bool seen;      /* NVML has told about this process: when it no longer does, it holds nothing */
  bool open;
};

uint64_t flight_word;
_Thread_local uint32_t flight_own;

static struct overhead devices[DEVICES];
static guard_lock open_lock;

void overhead_reset(void) {
  memset(devices, 0, sizeof devices);
  flight_word = 0;
  flight_own = 0;
  open_lock.word = 0;
  identity_reset();
}

/* NULL when the device has no share here. */
static struct overhead *overhead_of(CUdevice device) {
  share_set shares;
  if (device < 0 || device >= DEVICES || !device_shares(device, &shares) || shares == 0) return NULL;
  GUARD_HOLD(&open_lock);
  struct overhead *found = &devices[device];
  if (!found->open) account_open(&found->account, shares, 1);
  found->open = true;
  return found;
}

/* ---- what NVML says ---- */

static bool device_of(CUdevice device, nvmlDevice_t *out) {
  nvmlInit_v2_fn *init = NULL;
  nvmlDeviceGetHandleByUUID_fn *by_uuid = NULL;
  static atomic_bool is_open;
  char uuid[SHARE_UUID_TEXT];
  if (!driver_load(LIBRARY_NVML) || !device_uuid(device, uuid)) return false;
  init = DRIVER(nvmlInit_v2);
  by_uuid = DRIVER(nvmlDeviceGetHandleByUUID);
  if (init == NULL || by_uuid == NULL) return false;
  if (!atomic_load(&is_open) && init() != NVML_SUCCESS) return false;
  atomic_store(&is_open, true);
  if (by_uuid(uuid, out) == NVML_SUCCESS) return true;
  memcpy(uuid, "MIG-", 4); /* CUDA tells no prefix, and a partition's is another */
  return by_uuid(uuid, out) == NVML_SUCCESS;
}

/* The memory of this process as the driver counts it; false when it does not know us. */
static bool own_bytes(CUdevice device, struct overhead *overhead, uint64_t *bytes) {
  nvmlDevice_t handle;
  if (!device_of(device, &handle)) return false;
  nvmlProcessInfo_t *infos = prim_pages(IDENTITY_MOST * sizeof *infos);
  unsigned int count;
  bool found = false, listed = identity_list(handle, infos, &count);
  *bytes = 0;
  for (unsigned int i = 0; listed && i < count && !found; i++) {
    found = identity_is(infos[i].pid) && infos[i].usedGpuMemory != (unsigned long long)NVML_VALUE_NOT_AVAILABLE;
    if (found) *bytes = infos[i].usedGpuMemory;
  }
  prim_unmap(infos, IDENTITY_MOST * sizeof *infos);
  if (found) atomic_store(&overhead->seen, true);
  return found || (listed && atomic_load(&overhead->seen));
}

/* One measure. */
struct look {
  uint64_t ticket, ended; /* taken before it */
  uint64_t
      bytes;  /* what the driver holds beyond what else we were charged for: at least, and when exact no more either */
  bool exact; /* nothing was under way meanwhile, and no other charge hides a part of it */
  bool alone; /* nothing else was charged */
};

/* Read together: what contexts are charged with leaves both or neither. */
static uint64_t known_beside(struct overhead *overhead, struct look *look, uint64_t *held) {
  GUARD_HOLD(&overhead->lock);
  look->ticket = account_question(&overhead->account);
  look->ended = overhead->ended;
  *held = share_held(overhead->account.shares);
  uint64_t charged = account_charged(&overhead->account);
  return *held > charged ? *held - charged : 0;
}

/* False when the driver does not know us, or too much happened meanwhile; *told: it does. */
static bool look(CUdevice device, struct overhead *overhead, struct look *out, bool *told) {
  for (int i = 0; i < LOOKS; i++) {
    uint64_t own, held, before = flight_look(), known = known_beside(overhead, out, &held);
    *told = own_bytes(device, overhead, &own);
    if (!*told) return false;
    /* an allocation that was charged after we had read the charges may be in the driver's figure */
    bool moved = share_held(overhead->account.shares) != held;
    uint64_t after = flight_look();
    if (flight_begun_of(before) != flight_begun_of(after) || moved) continue;
    out->bytes = own > known ? own - known : 0;
    /* what others exported to us may be in their figure instead of ours */
    out->exact = before == after && flight_is_quiet(before) && own >= known && !import_is_held();
    out->alone = known == 0;
    return true;
  }
  return false;
}

/* ---- charging it ---- */

/* With the lock, as the two that follow. */
static void note(struct overhead *overhead) {
  for (share_set left = overhead->account.shares; left != 0; left &= left - 1) {
    unsigned share = (unsigned)__builtin_ctzll(left);
    share_note_overhead(share, account_of_share(&overhead->account, share));
  }
}

static bool raise(struct overhead *overhead, const struct look *look) {
  uint64_t gone = overhead->ended - look->ended;
  return account_raise(&overhead->account, look->bytes > gone ? look->bytes - gone : 0);
}

/* Void when a context was charged or refunded since the look, which changed the account. */
static bool replace(struct overhead *overhead, const struct look *look) {
  uint64_t least = overhead->contexts, bytes = look->bytes > least ? look->bytes : least;
  return account_answer(&overhead->account, look->ticket, bytes, 0, 0);
}

bool overhead_measure(CUdevice device) {
  struct look seen;
  bool told;
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL) return true;
  atomic_store(&overhead->measured_ns, prim_coarse_ns());
  if (!look(device, overhead, &seen, &told)) return true;
  GUARD_HOLD(&overhead->lock);
  bool fits = raise(overhead, &seen);
  if (seen.exact) fits = replace(overhead, &seen) && fits;
  note(overhead);
  return fits;
}

void overhead_measure_sometimes(CUdevice device) {
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL || account_charged(&overhead->account) == 0) return;
  if (prim_coarse_ns() - atomic_load(&overhead->measured_ns) >= SELDOM_NS) (void)overhead_measure(device);
}

/* ---- contexts ---- */

static bool charge(struct overhead *overhead, struct overhead_order *order) {
  uint64_t admitted, bytes = order->taken;
  GUARD_HOLD(&overhead->lock);
  order->beside = account_reserved(&overhead->account) != 0;
  if (account_begin(&overhead->account, bytes, &admitted) != 0) return false;
  overhead->contexts += bytes;
  (void)account_adjust(&overhead->account, (int64_t)bytes, admitted);
  note(overhead);
  return true;
}

static void refund(struct overhead *overhead, uint64_t bytes) {
  GUARD_HOLD(&overhead->lock);
  overhead->contexts -= bytes;
  overhead->ended += bytes;
  (void)account_adjust(&overhead->account, -(int64_t)bytes, 0);
  note(overhead);
}

/* Whether it is known, or ours to find out: one thread of one process at a time. */
static enum share_knowledge ask(struct overhead_order *order, struct overhead *overhead, uint64_t *bytes) {
  uint64_t size = atomic_load(&overhead->size);
  *bytes = size - (size != 0);
  if (size != 0) return SHARE_KNOWS;
  if (atomic_exchange(&overhead->learning, true)) return SHARE_WAIT;
  enum share_knowledge knowledge = share_context_bytes(order->share, bytes);
  if (knowledge == SHARE_KNOWS && *bytes != UINT64_MAX) atomic_store(&overhead->size, *bytes + 1);
  if (knowledge != SHARE_LEARN) atomic_store(&overhead->learning, false);
  return knowledge;
}

/* What a context will take, as far as that is known; while another one makes the first of the share we wait for it. */
static uint64_t expected(struct overhead_order *order, struct overhead *overhead) {
  static uint32_t nap;
  uint64_t bytes = 0, give_up = prim_monotonic_ns() + PATIENCE_NS;
  for (;;) {
    enum share_knowledge knowledge = ask(order, overhead, &bytes);
    order->learning = knowledge == SHARE_LEARN;
    if (knowledge != SHARE_WAIT || prim_monotonic_ns() > give_up) return bytes;
    prim_futex_wait(&nap, 0, NAP_NS, false);
  }
}

void overhead_expect(struct overhead_order *order, CUdevice device) {
  *order = (struct overhead_order){.device = device};
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL || !device_of(device, &order->handle)) return;
  order->active = true;
  order->share = (unsigned)__builtin_ctzll(overhead->account.shares);
  order->taken = expected(order, overhead);
  identity_before(order->handle);
}

static void end_learning(const struct overhead_order *order, bool known) {
  if (!order->learning) return;
  share_learned_context(order->share, known, order->taken);
  atomic_store(&devices[order->device].learning, false);
}

CUresult overhead_admit(struct overhead_order *order) {
  if (!order->active) return CUDA_SUCCESS;
  struct overhead *overhead = &devices[order->device];
  if (charge(overhead, order)) return CUDA_SUCCESS;
  admit_reclaim(order->device);
  if (charge(overhead, order)) return CUDA_SUCCESS;
  identity_after(order->handle, false);
  end_learning(order, false);
  share_count_refusal(overhead->account.shares);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* The share's first context is there: it is charged with what it took, and those after it with as much.  Where that was blurred the next
 * one tells; where NVML does not know us there is nothing to wait for. */
static bool learn(struct overhead_order *order, struct overhead *overhead) {
  struct look seen = {0};
  bool told, known = false, fits = true;
  if (look(order->device, overhead, &seen, &told)) {
    GUARD_HOLD(&overhead->lock);
    known = seen.exact && seen.alone && !order->beside && overhead->ended == seen.ended;
    if (known) order->taken = seen.bytes;
    overhead->contexts += order->taken;
    fits = raise(overhead, &seen);
    note(overhead);
  }
  end_learning(order, known || (!told && !identity_is_ambiguous()));
  return fits;
}

bool overhead_settle(struct overhead_order *order, CUresult result) {
  if (!order->active) return true;
  struct overhead *overhead = &devices[order->device];
  identity_after(order->handle, result == CUDA_SUCCESS);
  if (result != CUDA_SUCCESS) {
    refund(overhead, order->taken);
    order->taken = 0;
    end_learning(order, false);
    return true;
  }
  bool fits = order->learning ? learn(order, overhead) : overhead_measure(order->device);
  if (!fits) share_count_refusal(overhead->account.shares);
  return fits;
}

void overhead_context_ended(CUdevice device, uint64_t bytes) {
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL) return;
  refund(overhead, bytes);
  (void)overhead_measure(device);
}
