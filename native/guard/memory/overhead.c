#include "overhead.h"

#include <stdatomic.h>
#include <string.h>

#include "account.h"
#include "admit.h"
#include "driver.h"
#include "flight.h"
#include "prim.h"

enum { DEVICES = 64, MOST_PROCESSES = 1024, LOOKS = 3 };
static const uint64_t NAP_NS = 1000000u;
static const uint64_t PATIENCE_NS = 10000000000u; /* for another process that makes the share's first context */
static const uint64_t SELDOM_NS = 500000000u;

struct overhead {
  struct account account;
  _Atomic uint64_t measured_ns;
  atomic_bool seen; /* NVML has told about this process: when it no longer does, it holds nothing */
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
  return by_uuid(uuid, out) == NVML_SUCCESS;
}

/* The memory of this process as the driver counts it; false when it does not know us. */
static bool own_bytes(CUdevice device, struct overhead *overhead, uint64_t *bytes) {
  __typeof__(&nvmlDeviceGetComputeRunningProcesses_v3) list;
  nvmlDevice_t handle;
  if (!device_of(device, &handle)) return false;
  list = REAL(nvmlDeviceGetComputeRunningProcesses_v3);
  nvmlProcessInfo_t *infos = prim_pages(MOST_PROCESSES * sizeof *infos);
  unsigned int count = MOST_PROCESSES, self = (unsigned int)prim_pid();
  bool found = false, listed = false;
  if (list != NULL && infos != NULL) listed = list(handle, &count, infos) == NVML_SUCCESS;
  *bytes = 0;
  for (unsigned int i = 0; listed && i < count && !found; i++) {
    found = infos[i].pid == self && infos[i].usedGpuMemory != (unsigned long long)NVML_VALUE_NOT_AVAILABLE;
    if (found) *bytes = infos[i].usedGpuMemory;
  }
  prim_unmap(infos, MOST_PROCESSES * sizeof *infos);
  if (found) atomic_store(&overhead->seen, true);
  return found || (listed && atomic_load(&overhead->seen));
}

/* What the driver holds beyond what we were charged for; false when that cannot be told.  *exact: nothing was under way meanwhile, else
 * it is at least this much: charges come before the driver's figure and go after it. */
static bool look(CUdevice device, struct overhead *overhead, uint64_t *bytes, bool *exact) {
  for (int i = 0; i < LOOKS; i++) {
    uint64_t own, before = flight_look(), held = share_held(overhead->account.shares);
    uint64_t charged = account_charged(&overhead->account);
    if (!own_bytes(device, overhead, &own)) return false;
    uint64_t after = flight_look();
    if (flight_begun_of(before) != flight_begun_of(after) || share_held(overhead->account.shares) != held) continue;
    uint64_t known = held > charged ? held - charged : 0;
    *bytes = own > known ? own - known : 0;
    *exact = before == after && flight_is_quiet(before);
    return true;
  }
  return false;
}

/* ---- charging it ---- */

static void note(struct overhead *overhead) {
  for (share_set left = overhead->account.shares; left != 0; left &= left - 1) {
    unsigned share = (unsigned)__builtin_ctzll(left);
    share_note_overhead(share, account_of_share(&overhead->account, share));
  }
}

bool overhead_measure(CUdevice device) {
  uint64_t bytes;
  bool exact, fits = true;
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL) return true;
  atomic_store(&overhead->measured_ns, prim_coarse_ns());
  uint64_t ticket = account_question(&overhead->account);
  if (!look(device, overhead, &bytes, &exact)) return true;
  fits = exact ? account_answer(&overhead->account, ticket, bytes, 0, 0) : account_raise(&overhead->account, bytes);
  note(overhead);
  return fits;
}

void overhead_measure_sometimes(CUdevice device) {
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL || account_charged(&overhead->account) == 0) return;
  if (prim_coarse_ns() - atomic_load(&overhead->measured_ns) >= SELDOM_NS) (void)overhead_measure(device);
}

/* What a context will take, as far as that is known; while another process makes the first one of the share we wait for it. */
static uint64_t expected(struct overhead_order *order) {
  static uint32_t nap;
  uint64_t bytes = 0, give_up = prim_monotonic_ns() + PATIENCE_NS;
  for (;;) {
    enum share_knowledge knowledge = share_context_bytes(order->share, &bytes);
    order->learning = knowledge == SHARE_LEARN;
    if (knowledge != SHARE_WAIT || prim_monotonic_ns() > give_up) return bytes;
    prim_futex_wait(&nap, 0, NAP_NS, false);
  }
}

CUresult overhead_admit(struct overhead_order *order, CUdevice device) {
  nvmlDevice_t unused;
  *order = (struct overhead_order){.device = device};
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL || !device_of(device, &unused)) return CUDA_SUCCESS;
  order->active = true;
  order->share = (unsigned)__builtin_ctzll(overhead->account.shares);
  uint64_t bytes = expected(order);
  if (account_begin(&overhead->account, bytes, &order->admitted) == 0) return CUDA_SUCCESS;
  admit_reclaim(device);
  if (account_begin(&overhead->account, bytes, &order->admitted) == 0) return CUDA_SUCCESS;
  share_count_refusal(overhead->account.shares);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

/* What a new context took: as measured, and what contexts of this share are known to take when others' calls blur the measure. */
static uint64_t taken(struct overhead_order *order, struct overhead *overhead) {
  uint64_t bytes, known = order->admitted;
  bool exact;
  if (!look(order->device, overhead, &bytes, &exact)) return known;
  uint64_t before = account_reserved(&overhead->account);
  uint64_t seen = bytes > before ? bytes - before : 0;
  return exact || known == 0 ? seen : known;
}

bool overhead_settle(struct overhead_order *order, CUresult result) {
  if (!order->active) return true;
  struct overhead *overhead = &devices[order->device];
  order->taken = result == CUDA_SUCCESS ? taken(order, overhead) : 0;
  bool fits = account_adjust(&overhead->account, (int64_t)order->taken, order->admitted);
  if (order->learning) share_learned_context(order->share, result == CUDA_SUCCESS, order->taken);
  if (!fits) share_count_refusal(overhead->account.shares);
  note(overhead);
  return fits;
}

void overhead_context_ended(CUdevice device, uint64_t bytes) {
  struct overhead *overhead = overhead_of(device);
  if (overhead == NULL) return;
  (void)account_adjust(&overhead->account, -(int64_t)bytes, 0);
  (void)overhead_measure(device);
  note(overhead);
}
