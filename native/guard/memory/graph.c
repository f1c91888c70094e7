#include "graph.h"

#include <string.h>

#include "account.h"
#include "admit.h"
#include "capture.h"
#include "driver.h"
#include "flight.h"
#include "gate.h"
#include "graph_demand.h"
#include "overhead.h"
#include "pool.h"

/* What the driver keeps for the graphs of one device. */
struct store {
  bool open;
  share_set shares;
  uint32_t generation; /* moves on when memory of a graph that ran may have gone to another, or back */
  uint64_t admitted;   /* for the call under way */
  uint64_t surplus;    /* the most that the driver took beyond what was admitted */
  struct account account;
};

static struct store stores[GRAPH_DEVICES];
/* Calls that may make the driver take or give back memory of graphs come one after the other, the driver's part included: a graph runs
 * without admission when it has its memory, and another must not get that meanwhile. */
static guard_lock turn;
atomic_bool graph_seen;

void graph_reset(void) {
  memset(stores, 0, sizeof stores);
  turn.word = 0;
  atomic_store(&graph_seen, false);
}

/* ---- what the driver keeps; all with the turn ---- */

static bool reserved_of(CUdevice device, uint64_t *bytes) {
  cuDeviceGetGraphMemAttribute_fn *ask = DRIVER(cuDeviceGetGraphMemAttribute);
  return ask != NULL && ask(device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, bytes) == CUDA_SUCCESS;
}

/* otherwise: what is believed when the driver does not say.  False when it holds more than there is room for. */
static bool ask(CUdevice device, uint64_t otherwise, uint64_t admitted) {
  struct account *account = &stores[device].account;
  uint64_t ticket = account_question(account), reserved;
  if (!reserved_of(device, &reserved)) reserved = otherwise;
  return account_answer(account, ticket, reserved, 0, admitted);
}

static void refresh(CUdevice device) {
  stores[device].generation++;
  (void)ask(device, account_reserved(&stores[device].account), 0);
}

static void trim(CUdevice device) {
  __typeof__(&cuDeviceGraphMemTrim) real = REAL(cuDeviceGraphMemTrim);
  if (real == NULL || account_reserved(&stores[device].account) == 0) return;
  bool relaxed = capture_relax();
  (void)real(device);
  capture_tighten(relaxed);
  refresh(device);
}

/* False when it cannot be known whom to charge.  *out is NULL when nobody is. */
static bool open_store(CUdevice device, struct store **out) {
  struct store *store = &stores[device];
  *out = NULL;
  if (!store->open) {
    if (admit_shares(device, &store->shares) != CUDA_SUCCESS) return false;
    if (store->shares == 0) return true;
    account_open(&store->account, store->shares, pool_granule(device));
    store->generation = 1;
    store->open = true;
  }
  *out = store;
  return true;
}

/* ---- what is known of a graph to be launched ---- */

/* Its memory on one device.  bytes: what it allocates; owner: the stream that it ran in; references: the generation of the device then, 0 if
 * never; share: whether what it allocates outlives the launch. */
static uint64_t part_key(CUgraphExec exec, CUdevice device) {
  return (uint64_t)(uintptr_t)exec << 6 | (uint64_t)device;
}

static uint64_t devices_of(CUgraphExec exec) {
  ledger_entry entry;
  return ledger_get(LEDGER_GRAPH, (uintptr_t)exec, &entry) ? entry.owner : 0;
}

static CUdevice next_device(uint64_t set, CUdevice from) {
  uint64_t left = from < GRAPH_DEVICES ? set >> from : 0;
  return left == 0 ? GRAPH_DEVICES : from + (CUdevice)__builtin_ctzll(left);
}

#define EACH_DEVICE(device, set) \
  for (CUdevice device = next_device(set, 0); device < GRAPH_DEVICES; device = next_device(set, device + 1))

static bool remember(CUgraphExec exec, const struct graph_demand *demand) {
  ledger_entry old, entry = {.key = (uintptr_t)exec, .owner = demand->devices, .kind = LEDGER_GRAPH};
  if (demand->devices == 0) return true;
  atomic_store(&graph_seen, true);
  bool kept = ledger_put(&entry, &old);
  EACH_DEVICE(device, demand->devices) {
    ledger_entry part = {.key = part_key(exec, device),
                         .bytes = demand->bytes[device],
                         .share = demand->leaves,
                         .kind = LEDGER_GRAPH_PART};
    kept = kept && ledger_put(&part, &old);
  }
  return kept;
}

/* Fills demand with what was known. */
static void forget(CUgraphExec exec, struct graph_demand *demand) {
  ledger_entry entry;
  memset(demand, 0, sizeof *demand);
  if (!ledger_take(LEDGER_GRAPH, (uintptr_t)exec, &entry)) return;
  demand->devices = entry.owner;
  EACH_DEVICE(device, demand->devices) {
    if (!ledger_take(LEDGER_GRAPH_PART, part_key(exec, device), &entry)) continue;
    demand->bytes[device] = entry.bytes;
    demand->leaves |= entry.share != 0;
  }
}

/* ---- calls that may make the driver take memory ---- */

struct order {
  CUresult (*call)(const struct order *order);
  CUgraphExec exec; /* NULL: it is being made, and demand tells what it allocates */
  const struct graph_demand *demand;
  uint64_t devices;
  CUstream seen;
  bool is_launch;
  graph_launch_fn *run; /* with exec, in stream */
  CUstream stream;
  __typeof__(&cuGraphInstantiateWithParams) make;
  CUgraphExec *made;
  CUgraph graph;
  CUDA_GRAPH_INSTANTIATE_PARAMS *params;
};

static CUresult call_run(const struct order *order) { return order->run(order->exec, order->stream); }

static CUresult call_make(const struct order *order) { return order->make(order->made, order->graph, order->params); }

static ledger_entry part_of(const struct order *order, CUdevice device) {
  ledger_entry part = {.bytes = 0};
  if (order->exec == NULL) part.bytes = order->demand->bytes[device];
  if (order->exec != NULL) (void)ledger_get(LEDGER_GRAPH_PART, part_key(order->exec, device), &part);
  return part;
}

static bool begin_on(const struct order *order, CUdevice device) {
  struct store *store;
  ledger_entry part = part_of(order, device);
  if (!open_store(device, &store)) return false;
  if (store == NULL) return true;
  store->admitted = 0;
  bool has_memory = part.references == store->generation && part.owner == (uintptr_t)order->seen;
  if (has_memory) return true;
  uint64_t bytes;
  if (__builtin_add_overflow(part.bytes, store->surplus, &bytes)) bytes = UINT64_MAX;
  if (account_begin(&store->account, bytes, &store->admitted) == 0) return true;
  pool_trim(device);
  trim(device);
  overhead_measure_sometimes(device);
  return account_begin(&store->account, bytes, &store->admitted) == 0;
}

static void cancel(uint64_t devices) {
  EACH_DEVICE(device, devices) {
    struct store *store = &stores[device];
    if (store->open) (void)ask(device, account_reserved(&store->account), store->admitted);
  }
}

/* An upload alone need not take memory: a launch goes without admission after one that did. */
static void note_run(const struct order *order, struct store *store, CUdevice device, uint64_t taken) {
  ledger_entry old, part = part_of(order, device);
  if (order->exec == NULL || (!order->is_launch && taken < part.bytes)) return;
  if (part.share != 0) store->generation++;
  part.references = store->generation;
  part.owner = (uintptr_t)order->seen;
  (void)ledger_put(&part, &old);
}

static void settle_on(const struct order *order, CUdevice device, bool granted) {
  struct store *store = &stores[device];
  if (!store->open) return;
  uint64_t before = account_reserved(&store->account), admitted = store->admitted;
  bool fits = ask(device, before + admitted, admitted);
  uint64_t after = account_reserved(&store->account), taken = after > before ? after - before : 0;
  if (admitted != 0 && taken > admitted) store->surplus += taken - admitted;
  if (granted) note_run(order, store, device, taken);
  if (!granted || (admitted == 0 && taken != 0)) store->generation++;
  if (!fits) trim(device);
}

/* False when there is no room. */
static bool attempt(const struct order *order, CUresult *result) {
  GUARD_HOLD(&turn);
  EACH_DEVICE(device, order->devices) {
    if (begin_on(order, device)) continue;
    cancel(order->devices & (((uint64_t)1 << device) - 1));
    return false;
  }
  *result = order->call(order);
  EACH_DEVICE(device, order->devices) settle_on(order, device, *result == CUDA_SUCCESS);
  return true;
}

static void wait_for(CUstream stream) {
  __typeof__(&cuStreamSynchronize) wait = REAL(cuStreamSynchronize);
  bool relaxed = capture_relax();
  if (wait != NULL) (void)wait(stream);
  capture_tighten(relaxed);
}

/* Graphs that run cannot be trimmed: those of the same stream are waited for before a refusal. */
static CUresult carry_out(const struct order *order) {
  CUresult result;
  share_set shares;
  FLIGHT;
  if (attempt(order, &result)) return result;
  wait_for(order->seen);
  if (attempt(order, &result)) return result;
  EACH_DEVICE(device, order->devices) {
    if (device_shares(device, &shares)) share_count_refusal(shares);
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult run(graph_launch_fn *real, CUgraphExec exec, CUstream stream, CUstream seen, bool is_launch) {
  cuStreamIsCapturing_fn *is_capturing = DRIVER(cuStreamIsCapturing);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  struct order order = {
      .call = call_run, .exec = exec, .seen = seen, .is_launch = is_launch, .run = real, .stream = stream};
  order.devices = devices_of(exec);
  if (order.devices == 0) return real(exec, stream);
  if (is_capturing != NULL && is_capturing(seen, &status) == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE)
    return real(exec, stream);
  return carry_out(&order);
}

CUresult graph_launch_slowly(graph_launch_fn *real, CUgraphExec exec, CUstream stream, CUstream seen) {
  return run(real, exec, stream, seen, true);
}

void graph_trim(CUdevice device) {
  if (!atomic_load_explicit(&graph_seen, memory_order_relaxed) || device < 0 || device >= GRAPH_DEVICES) return;
  GUARD_HOLD(&turn);
  if (stores[device].open) trim(device);
}

void graph_context_ended(CUdevice device) {
  if (!atomic_load_explicit(&graph_seen, memory_order_relaxed) || device < 0 || device >= GRAPH_DEVICES) return;
  GUARD_HOLD(&turn);
  if (!stores[device].open) return;
  stores[device].generation++;
  (void)ask(device, 0, 0);
}

/* ---- hooks ---- */

static inline CUresult upload(graph_launch_fn *real, CUgraphExec exec, CUstream stream, CUstream seen) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  return limited ? run(real, exec, stream, seen, false) : real(exec, stream);
}

GUARD_EXPORT CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
  return upload(REAL(cuGraphUpload), exec, stream, stream);
}

GUARD_EXPORT CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream) {
  return upload(REAL(cuGraphUpload_ptsz), exec, stream, stream == NULL ? CU_STREAM_PER_THREAD : stream);
}

/* What the graph allocates; false: there is no saying, and it must not be made.  A handle that is no graph is the driver's to refuse. */
static bool demand_of(CUgraph graph, struct graph_demand *demand) {
  cuGraphGetNodes_fn *nodes_of = DRIVER(cuGraphGetNodes);
  size_t count;
  memset(demand, 0, sizeof *demand);
  if (nodes_of == NULL || nodes_of(graph, NULL, &count) != CUDA_SUCCESS) return true;
  return graph_demand_of(graph, demand);
}

/* After the driver made it.  A handle may be that of a graph that went with its context. */
static CUresult keep(CUgraphExec *made, const struct graph_demand *demand, CUresult result) {
  struct graph_demand gone;
  if (result != CUDA_SUCCESS || made == NULL) return result;
  if (atomic_load_explicit(&graph_seen, memory_order_relaxed)) forget(*made, &gone);
  if (remember(*made, demand)) return result;
  __typeof__(&cuGraphExecDestroy) destroy = REAL(cuGraphExecDestroy);
  forget(*made, &gone);
  if (destroy != NULL) (void)destroy(*made);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

#define INSTANTIATE(name, parameters, arguments)                     \
  GUARD_EXPORT CUresult name parameters {                            \
    BEGIN_HOOK(name, CUDA_ERROR_NOT_INITIALIZED);                    \
    struct graph_demand demand;                                      \
    if (!limited) return real arguments;                             \
    if (!demand_of(graph, &demand)) return CUDA_ERROR_OUT_OF_MEMORY; \
    return keep(made, &demand, real arguments);                      \
  }

INSTANTIATE(cuGraphInstantiate, (CUgraphExec * made, CUgraph graph, CUgraphNode *error, char *log, size_t room),
            (made, graph, error, log, room))
INSTANTIATE(cuGraphInstantiate_v2, (CUgraphExec * made, CUgraph graph, CUgraphNode *error, char *log, size_t room),
            (made, graph, error, log, room))
INSTANTIATE(cuGraphInstantiateWithFlags, (CUgraphExec * made, CUgraph graph, unsigned long long flags),
            (made, graph, flags))

/* The only one that can upload, too. */
static CUresult make(__typeof__(&cuGraphInstantiateWithParams) real, CUgraphExec *made, CUgraph graph,
                     CUDA_GRAPH_INSTANTIATE_PARAMS *params, bool per_thread) {
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct graph_demand demand;
  if (!limited || params == NULL) return real(made, graph, params);
  if (!demand_of(graph, &demand)) return CUDA_ERROR_OUT_OF_MEMORY;
  if (demand.devices == 0 || (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) == 0)
    return keep(made, &demand, real(made, graph, params));
  bool own = per_thread && params->hUploadStream == NULL;
  struct order order = {.call = call_make,
                        .demand = &demand,
                        .devices = demand.devices,
                        .seen = own ? CU_STREAM_PER_THREAD : params->hUploadStream,
                        .make = real,
                        .made = made,
                        .graph = graph,
                        .params = params};
  atomic_store(&graph_seen, true);
  return keep(made, &demand, carry_out(&order));
}

GUARD_EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec *made, CUgraph graph,
                                                   CUDA_GRAPH_INSTANTIATE_PARAMS *params) {
  return make(REAL(cuGraphInstantiateWithParams), made, graph, params, false);
}

GUARD_EXPORT CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *made, CUgraph graph,
                                                        CUDA_GRAPH_INSTANTIATE_PARAMS *params) {
  return make(REAL(cuGraphInstantiateWithParams_ptsz), made, graph, params, true);
}

/* The child graph that an exec gets instead of another; what that one allocated is not taken off, for nobody says what it was. */
static CUresult adopt(CUgraphExec exec, CUgraph child, CUresult result) {
  struct graph_demand more, demand;
  if (result != CUDA_SUCCESS || !demand_of(child, &more) || more.devices == 0) return result;
  forget(exec, &demand);
  demand.devices |= more.devices;
  demand.leaves |= more.leaves;
  for (unsigned i = 0; i < GRAPH_DEVICES; i++) demand.bytes[i] += more.bytes[i];
  return remember(exec, &demand) ? result : CUDA_ERROR_OUT_OF_MEMORY;
}

GUARD_EXPORT CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraph child) {
  BEGIN_HOOK(cuGraphExecChildGraphNodeSetParams, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(exec, node, child);
  return limited ? adopt(exec, child, result) : result;
}

GUARD_EXPORT CUresult cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *params) {
  BEGIN_HOOK(cuGraphExecNodeSetParams, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(exec, node, params);
  bool is_child = limited && params != NULL && params->type == CU_GRAPH_NODE_TYPE_GRAPH;
  return is_child ? adopt(exec, params->graph.graph, result) : result;
}

/* Its name in the ledger has to be gone before the driver gives it to another one. */
GUARD_EXPORT CUresult cuGraphExecDestroy(CUgraphExec exec) {
  BEGIN_HOOK(cuGraphExecDestroy, CUDA_ERROR_NOT_INITIALIZED);
  struct graph_demand demand;
  if (!limited || !atomic_load_explicit(&graph_seen, memory_order_relaxed)) return real(exec);
  FLIGHT;
  forget(exec, &demand);
  CUresult result = real(exec);
  if (result != CUDA_SUCCESS) {
    (void)remember(exec, &demand);
  } else if (demand.devices != 0) {
    GUARD_HOLD(&turn);
    EACH_DEVICE(device, demand.devices) {
      if (stores[device].open) refresh(device);
    }
  }
  return result;
}

GUARD_EXPORT CUresult cuDeviceGraphMemTrim(CUdevice device) {
  BEGIN_HOOK(cuDeviceGraphMemTrim, CUDA_ERROR_NOT_INITIALIZED);
  if (!limited || device < 0 || device >= GRAPH_DEVICES) return real(device);
  FLIGHT;
  GUARD_HOLD(&turn);
  CUresult result = real(device);
  if (stores[device].open) refresh(device);
  return result;
}
