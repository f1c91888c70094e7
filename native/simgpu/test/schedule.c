/* Uses streams, events and graphs of the simulated driver as programs do, with times that must come out exactly.
 *
 *   schedule streams            order and times within one process
 *   schedule graphs             graphs made by hand and by capture, and what they must refuse
 *   schedule threads N LAUNCHES N threads launch, record, wait, capture and allocate at once
 * Exit status 0 means that every answer was the expected one.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define US 1000ull
#define MS 1000000ull
#define MIB ((size_t)1 << 20)
#define FULL 100000u /* blocks that fill any card */

#define EXPECT(call, wanted)                                                                           \
  do {                                                                                                 \
    int got_ = (int)(call);                                                                            \
    if (got_ != (int)(wanted)) {                                                                       \
      fprintf(stderr, "%s:%d: %s: got %d, want %d\n", __FILE__, __LINE__, #call, got_, (int)(wanted)); \
      exit(1);                                                                                         \
    }                                                                                                  \
  } while (0)
#define OK(call) EXPECT(call, CUDA_SUCCESS)
#define CHECK(condition) EXPECT(!(condition), 0)

/* As programs call them that are compiled for a default stream of each thread. */
CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ,
                             unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
                             unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra);

static CUcontext context;
static CUfunction kernel;

static void start(void) {
  CUdevice device;
  CUmodule module;
  OK(cuInit(0));
  OK(cuDeviceGet(&device, 0));
  OK(cuDevicePrimaryCtxRetain(&context, device));
  OK(cuCtxSetCurrent(context));
  OK(cuModuleLoadData(&module, ".version 8.0\n.target sm_80\n.visible .entry simgpu_sleep(.param .u64 ns) { ret; }\n"));
  OK(cuModuleGetFunction(&kernel, module, "simgpu_sleep"));
}

static void launch(unsigned long long ns, unsigned int blocks, CUstream stream) {
  void *parameters[] = {&ns};
  OK(cuLaunchKernel(kernel, blocks, 1, 1, 1024, 1, 1, 0, stream, parameters, NULL));
}

static CUstream new_stream(unsigned int flags) {
  CUstream stream;
  OK(cuStreamCreate(&stream, flags));
  return stream;
}

static CUevent events[256]; /* all of a run, destroyed at its end */
static int event_count;

static CUevent new_event(void) {
  CHECK(event_count < 256);
  OK(cuEventCreate(&events[event_count], 0));
  return events[event_count++];
}

static void destroy_events(void) {
  while (event_count > 0) OK(cuEventDestroy_v2(events[--event_count]));
}

static CUevent record(CUstream stream) {
  CUevent event = new_event();
  OK(cuEventRecord(event, stream));
  return event;
}

/* Nanoseconds between two events, to be compared with what floats of milliseconds can tell. */
static void expect_between_at(int line, CUevent from, CUevent to, double wanted_ns) {
  float ms;
  OK(cuEventSynchronize(from));
  OK(cuEventSynchronize(to));
  OK(cuEventElapsedTime_v2(&ms, from, to));
  double error = (double)ms * 1e6 - wanted_ns;
  if (error > 20 || error < -20) {
    fprintf(stderr, "line %d: %f ns between events, want %f\n", line, (double)ms * 1e6, wanted_ns);
    exit(1);
  }
}

#define expect_between(from, to, wanted_ns) expect_between_at(__LINE__, from, to, wanted_ns)

static size_t used(void) {
  size_t free_bytes;
  size_t total;
  OK(cuMemGetInfo_v2(&free_bytes, &total));
  return total - free_bytes;
}

/* Work whose times are exact must be queued before it begins: behind a kernel that takes as long as this machine needs.
 * A scenario says whether it was in time, and is played again with a longer one if not. */
static unsigned long long lead_ns = 4 * MS;

static void play(bool (*one)(void)) {
  while (!one()) lead_ns *= 2;
}

static CUevent lead(CUstream stream) {
  launch(lead_ns, FULL, stream);
  return record(stream);
}

static bool still_ahead(CUevent gate) { return cuEventQuery(gate) == CUDA_ERROR_NOT_READY; }

/* ---- streams ----------------------------------------------------------------------------------------------------- */

static bool times_are_exact(void) {
  float ms;
  static CUstream stream;
  stream = new_stream(CU_STREAM_NON_BLOCKING);
  CUevent first = lead(stream);
  launch(3 * MS, FULL, stream);
  CUevent second = record(stream);
  for (int i = 0; i < 500; i++) launch(10 * US, FULL, stream);
  CUevent third = record(stream);
  bool good = still_ahead(first);
  if (good) {
    expect_between(first, second, 3.0 * MS);
    expect_between(second, third, 5.0 * MS);
    OK(cuStreamQuery(stream));
  }
  for (int i = 0; i < 2000; i++) launch(US, FULL, stream); /* more than a ring holds */
  if (!good) {
    OK(cuStreamDestroy_v2(stream));
    return false;
  }
  launch(3600 * 1000 * MS, FULL, stream); /* it ends with the process */
  CUevent never = record(stream);
  EXPECT(cuEventQuery(never), CUDA_ERROR_NOT_READY);
  EXPECT(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
  EXPECT(cuEventElapsedTime_v2(&ms, first, never), CUDA_ERROR_NOT_READY);
  return true;
}

static bool streams_share_the_card(void) {
  CUstream a = new_stream(CU_STREAM_NON_BLOCKING);
  CUstream b = new_stream(CU_STREAM_NON_BLOCKING);
  CUstream urgent;
  OK(cuStreamCreateWithPriority(&urgent, CU_STREAM_NON_BLOCKING, -5));
  CUevent gate = lead(a);
  OK(cuStreamWaitEvent(b, gate, 0));
  launch(5 * MS, 10, a);
  launch(5 * MS, 10, b);
  CUevent a_small = record(a);
  CUevent b_small = record(b);
  OK(cuStreamWaitEvent(a, b_small, 0));
  launch(4 * MS, FULL, a);
  CUevent a_big = record(a);
  launch(4 * MS, FULL, b);
  OK(cuStreamWaitEvent(urgent, b_small, 0));
  launch(1 * MS, FULL, urgent);
  CUevent urgent_end = record(urgent);
  CUevent b_big = record(b);
  bool good = still_ahead(gate);
  if (good) {
    expect_between(gate, a_small, 5.0 * MS);
    expect_between(gate, b_small, 5.0 * MS);
    expect_between(b_small, urgent_end, 1.0 * MS);
    expect_between(urgent_end, a_big, 4.0 * MS);
    expect_between(a_big, b_big, 4.0 * MS);
  }
  OK(cuStreamDestroy_v2(urgent));
  OK(cuStreamDestroy_v2(a));
  OK(cuStreamDestroy_v2(b));
  return good;
}

static bool default_streams_are_ordered(void) {
  CUstream blocking = new_stream(CU_STREAM_DEFAULT);
  CUevent first = lead(blocking);
  launch(3 * MS, 10, NULL);
  CUevent middle = record(NULL);
  launch(2 * MS, 10, blocking);
  CUevent last = record(blocking);
  unsigned long long ns = 1 * MS;
  void *parameters[] = {&ns};
  OK(cuLaunchKernel_ptsz(kernel, 10, 1, 1, 1024, 1, 1, 0, NULL, parameters, NULL)); /* in the thread's own stream */
  CUevent own = record(CU_STREAM_PER_THREAD);
  bool good = still_ahead(first);
  if (good) {
    expect_between(first, middle, 3.0 * MS);
    expect_between(middle, last, 2.0 * MS);
    expect_between(middle, own, 1.0 * MS);
  }
  OK(cuStreamDestroy_v2(blocking));
  return good;
}

static bool others_do_not_wait_for_the_default_stream(void) {
  CUstream free_one = new_stream(CU_STREAM_NON_BLOCKING);
  CUevent gate = lead(free_one);
  launch(1 * MS, 10, NULL);
  CUstream idle = new_stream(CU_STREAM_NON_BLOCKING);
  OK(cuEventQuery(record(idle)));
  OK(cuStreamDestroy_v2(idle));
  bool good = still_ahead(gate);
  OK(cuCtxSynchronize());
  OK(cuStreamQuery(free_one));
  OK(cuStreamDestroy_v2(free_one));
  return good;
}

typedef struct journal {
  int order[8];
  int count;
} journal;

static journal seen;

static void note(void *number) {
  int at = __atomic_fetch_add(&seen.count, 1, __ATOMIC_SEQ_CST);
  seen.order[at % 8] = *(int *)number;
}

static void CUDA_CB note_callback(CUstream stream, CUresult status, void *number) {
  CHECK(stream != NULL && status == CUDA_SUCCESS);
  note(number);
}

static void write_word(void *word) { *(int *)word = 42; }

static bool host_functions_wait_for_their_turn(void) {
  static int numbers[] = {1, 2, 3};
  int source = 1;
  int got = 0;
  CUdeviceptr p;
  CUstream stream = new_stream(CU_STREAM_NON_BLOCKING);
  seen.count = 0;
  OK(cuMemAlloc_v2(&p, sizeof(int)));
  CUevent gate = lead(stream);
  OK(cuLaunchHostFunc(stream, note, &numbers[0]));
  OK(cuStreamAddCallback(stream, note_callback, &numbers[1], 0));
  OK(cuLaunchHostFunc(stream, write_word, &source));
  OK(cuMemcpyHtoDAsync_v2(p, &source, sizeof source, stream));
  OK(cuMemcpyDtoHAsync_v2(&got, p, sizeof got, stream));
  bool early = __atomic_load_n(&seen.count, __ATOMIC_SEQ_CST) != 0 || got != 0;
  bool good = still_ahead(gate);
  CHECK(!early || !good);
  launch(1 * MS, FULL, stream);
  OK(cuStreamSynchronize(stream));
  CHECK(seen.count == 2 && seen.order[0] == 1 && seen.order[1] == 2 && got == 42);
  OK(cuLaunchHostFunc(stream, note, &numbers[2]));
  OK(cuStreamSynchronize(stream));
  CHECK(seen.count == 3);
  OK(cuMemFree_v2(p));
  OK(cuStreamDestroy_v2(stream));
  return good;
}

static bool memory_is_freed_behind_work(void) {
  CUdeviceptr p;
  CUstream stream = new_stream(CU_STREAM_NON_BLOCKING);
  CUevent before;
  size_t at_first = used();
  OK(cuMemAllocAsync(&p, 8 * MIB, stream));
  before = lead(stream);
  OK(cuMemFreeAsync(p, stream));
  launch(2 * MS, FULL, stream);
  CUevent after = record(stream);
  bool good = still_ahead(before);
  if (good) expect_between(before, after, 2.0 * MS);
  OK(cuStreamSynchronize(stream));
  CHECK(used() == at_first);
  OK(cuMemAlloc_v2(&p, MIB));
  launch(5 * MS, FULL, stream);
  OK(cuMemFree_v2(p));
  OK(cuStreamQuery(stream)); /* the free waited for it */
  OK(cuStreamDestroy_v2(stream));
  return good;
}

static int streams(void) {
  start();
  play(streams_share_the_card);
  play(default_streams_are_ordered);
  play(others_do_not_wait_for_the_default_stream);
  play(host_functions_wait_for_their_turn);
  play(memory_is_freed_behind_work);
  CUstream gone = new_stream(CU_STREAM_NON_BLOCKING);
  launch(10 * MS, FULL, gone);
  OK(cuStreamDestroy_v2(gone)); /* its work goes on */
  OK(cuCtxSynchronize());
  play(times_are_exact);
  return 0;
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

static CUgraphNode add_kernel(CUgraph graph, CUgraphNode after, unsigned long long ns) {
  CUgraphNode node;
  void *parameters[] = {&ns};
  CUDA_KERNEL_NODE_PARAMS_v2 params = {.func = kernel,
                                       .gridDimX = FULL,
                                       .gridDimY = 1,
                                       .gridDimZ = 1,
                                       .blockDimX = 1024,
                                       .blockDimY = 1,
                                       .blockDimZ = 1,
                                       .kernelParams = parameters};
  OK(cuGraphAddKernelNode_v2(&node, graph, after != NULL ? &after : NULL, after != NULL, &params));
  return node;
}

static void expect_graph_takes(CUgraphExec exec, CUstream stream, unsigned long long ns) {
  for (bool good = false; !good; lead_ns += good ? 0 : lead_ns) {
    CUevent before = lead(stream);
    OK(cuGraphLaunch(exec, stream));
    CUevent after = record(stream);
    good = still_ahead(before);
    if (good) expect_between(before, after, (double)ns);
    OK(cuStreamSynchronize(stream));
  }
}

static void graphs_by_hand(CUstream stream) {
  CUgraph graph;
  CUgraph child;
  CUgraph clone;
  CUgraphNode nodes[8];
  CUgraphNode found;
  CUgraphNodeType type;
  CUgraphExec exec;
  size_t count = 0;
  OK(cuGraphCreate(&graph, 0));
  OK(cuGraphCreate(&child, 0));
  add_kernel(child, NULL, 3 * MS);
  nodes[0] = add_kernel(graph, NULL, 1 * MS);
  nodes[1] = add_kernel(graph, nodes[0], 2 * MS);
  OK(cuGraphAddChildGraphNode(&nodes[2], graph, &nodes[0], 1, child));
  OK(cuGraphAddEmptyNode(&nodes[3], graph, &nodes[1], 2));
  OK(cuGraphGetNodes(graph, NULL, &count));
  CHECK(count == 4);
  OK(cuGraphGetEdges(graph, NULL, NULL, &count));
  CHECK(count == 4);
  OK(cuGraphNodeGetDependentNodes(nodes[0], NULL, &count));
  CHECK(count == 2);
  OK(cuGraphNodeGetType(nodes[2], &type));
  CHECK(type == CU_GRAPH_NODE_TYPE_GRAPH);
  EXPECT(cuGraphAddDependencies(graph, &nodes[0], &nodes[0], 1), CUDA_ERROR_INVALID_VALUE);
  OK(cuGraphAddDependencies(graph, &nodes[3], &nodes[0], 1));
  EXPECT(cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_ERROR_INVALID_VALUE); /* a cycle */
  OK(cuGraphRemoveDependencies(graph, &nodes[3], &nodes[0], 1));
  OK(cuGraphClone(&clone, graph));
  OK(cuGraphNodeFindInClone(&found, nodes[1], clone));
  CHECK(found != nodes[1]);
  OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  expect_graph_takes(exec, stream, 6 * MS);
  OK(cuGraphNodeSetEnabled(exec, nodes[1], 0));
  expect_graph_takes(exec, stream, 4 * MS);
  OK(cuGraphNodeSetEnabled(exec, nodes[1], 1));
  CUDA_KERNEL_NODE_PARAMS_v2 params;
  OK(cuGraphKernelNodeGetParams_v2(nodes[1], &params));
  CHECK(params.func == kernel && *(unsigned long long *)params.kernelParams[0] == 2 * MS);
  unsigned long long longer = 7 * MS;
  void *parameters[] = {&longer};
  params.kernelParams = parameters;
  OK(cuGraphExecKernelNodeSetParams_v2(exec, nodes[1], &params));
  expect_graph_takes(exec, stream, 11 * MS);
  CUgraphExecUpdateResultInfo info;
  OK(cuGraphExecUpdate_v2(exec, clone, &info));
  expect_graph_takes(exec, stream, 6 * MS);
  EXPECT(cuGraphExecUpdate_v2(exec, child, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
  CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
  OK(cuGraphDestroyNode(nodes[2]));
  OK(cuGraphDestroy(child));
  OK(cuGraphDestroy(clone));
  OK(cuGraphDestroy(graph));
  EXPECT(cuGraphDestroy(graph), CUDA_ERROR_INVALID_VALUE);
  expect_graph_takes(exec, stream, 6 * MS); /* outlives them */
  OK(cuGraphExecDestroy(exec));
}

static void graphs_by_capture(CUstream stream) {
  static int number = 9;
  CUstream side = new_stream(CU_STREAM_NON_BLOCKING);
  CUstreamCaptureStatus status;
  CUgraph graph;
  CUgraphExec exec;
  CUdeviceptr p;
  char got[16] = "";
  size_t count;
  seen.count = 0;
  OK(cuMemAlloc_v2(&p, 16));
  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_ERROR_ILLEGAL_STATE);
  OK(cuStreamIsCapturing(stream, &status));
  CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  OK(cuMemsetD8Async(p, 'x', 15, stream));
  launch(1 * MS, FULL, stream);
  CUevent fork = record(stream);
  OK(cuStreamWaitEvent(side, fork, 0));
  OK(cuStreamIsCapturing(side, &status));
  CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  launch(2 * MS, FULL, side);
  launch(4 * MS, FULL, stream);
  CUevent joining = record(side);
  OK(cuStreamWaitEvent(stream, joining, 0));
  OK(cuMemcpyDtoHAsync_v2(got, p, 15, stream));
  OK(cuLaunchHostFunc(stream, note, &number));
  OK(cuStreamEndCapture(stream, &graph));
  OK(cuStreamIsCapturing(side, &status));
  CHECK(status == CU_STREAM_CAPTURE_STATUS_NONE && seen.count == 0 && got[0] == '\0');
  OK(cuGraphGetNodes(graph, NULL, &count));
  CHECK(count == 6);
  OK(cuGraphInstantiate_v2(&exec, graph, NULL, NULL, 0));
  CUevent before = lead(stream);
  OK(cuGraphLaunch(exec, stream));
  OK(cuStreamSynchronize(stream));
  CHECK(seen.count == 1 && strcmp(got, "xxxxxxxxxxxxxxx") == 0);
  CUevent after = record(stream);
  float ms;
  OK(cuEventElapsedTime_v2(&ms, before, after));
  CHECK(ms >= 7.0f);
  OK(cuGraphExecDestroy(exec));
  OK(cuGraphDestroy(graph));
  OK(cuMemFree_v2(p));
  OK(cuStreamDestroy_v2(side));
}

/* What a capture does not survive, and that it says so. */
static void captures_that_fail(CUstream stream) {
  CUgraph graph;
  CUdeviceptr p;
  CUevent event = new_event();
  CUstream side = new_stream(CU_STREAM_NON_BLOCKING);
  CUstream blocking = new_stream(CU_STREAM_DEFAULT);
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  EXPECT(cuStreamBeginCapture_v2(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_ILLEGAL_STATE);

  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  EXPECT(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  CHECK(graph == NULL);

  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  EXPECT(cuMemAlloc_v2(&p, MIB), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  OK(cuMemAlloc_v2(&p, MIB)); /* allowed by its thread's mode */
  OK(cuMemFree_v2(p));
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  OK(cuEventRecord(event, stream));
  EXPECT(cuEventQuery(event), CUDA_ERROR_CAPTURED_EVENT);
  EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

  OK(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
  EXPECT(cuEventRecord(event, NULL), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  EXPECT(cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

  OK(cuEventRecord(event, side));
  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  EXPECT(cuStreamWaitEvent(stream, event, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  OK(cuEventRecord(event, stream));
  OK(cuStreamWaitEvent(side, event, 0));
  launch(MS, FULL, side);
  EXPECT(cuStreamEndCapture(side, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  EXPECT(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
  OK(cuStreamQuery(side));
  OK(cuStreamDestroy_v2(side));
  OK(cuStreamDestroy_v2(blocking));
}

static unsigned long long graph_memory(CUgraphMem_attribute attribute) {
  cuuint64_t bytes;
  OK(cuDeviceGetGraphMemAttribute(0, attribute, &bytes));
  return bytes;
}

static void memory_of_graphs(CUstream stream) {
  CUgraph graph;
  CUgraphExec exec;
  CUgraphExec automatic;
  CUdeviceptr p;
  CUdeviceptr kept;
  size_t at_first = used();
  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  OK(cuMemAllocAsync(&p, 5 * MIB, stream));
  OK(cuMemAllocAsync(&kept, 3 * MIB, stream));
  OK(cuMemsetD8Async(kept, 7, 3 * MIB, stream));
  OK(cuMemFreeAsync(p, stream));
  OK(cuStreamEndCapture(stream, &graph));
  CHECK(used() == at_first);
  OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  OK(cuGraphInstantiateWithFlags(&automatic, graph, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
  EXPECT(cuMemsetD8_v2(kept, 1, 1), CUDA_ERROR_INVALID_VALUE);
  OK(cuGraphLaunch(exec, stream));
  OK(cuStreamSynchronize(stream));
  CHECK(used() == at_first + 8 * MIB);
  CHECK(graph_memory(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == 3 * MIB);
  CHECK(graph_memory(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 8 * MIB);
  OK(cuMemsetD8_v2(kept, 1, 3 * MIB));
  EXPECT(cuGraphLaunch(exec, stream), CUDA_ERROR_INVALID_VALUE); /* its memory is still allocated */
  OK(cuGraphLaunch(automatic, stream));
  OK(cuStreamSynchronize(stream));
  OK(cuDeviceGraphMemTrim(0));
  CHECK(used() == at_first + 3 * MIB);
  OK(cuMemFree_v2(kept));
  EXPECT(cuMemFree_v2(kept), CUDA_ERROR_INVALID_VALUE);
  OK(cuDeviceGraphMemTrim(0));
  CHECK(used() == at_first && graph_memory(CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH) == 8 * MIB);
  OK(cuGraphExecDestroy(exec));
  OK(cuGraphExecDestroy(automatic));
  OK(cuGraphDestroy(graph));
}

static int graphs(void) {
  start();
  CUstream stream = new_stream(CU_STREAM_NON_BLOCKING);
  graphs_by_hand(stream);
  graphs_by_capture(stream);
  captures_that_fail(stream);
  memory_of_graphs(stream);
  OK(cuStreamDestroy_v2(stream));
  destroy_events();
  OK(cuDevicePrimaryCtxRelease_v2(0));
  return 0;
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

static long launches;

static void count_one(void *counter) { __atomic_add_fetch((long *)counter, 1, __ATOMIC_SEQ_CST); }

static void *work(void *unused) {
  long called = 0;
  CUgraph graph;
  CUgraphExec exec;
  OK(cuCtxSetCurrent(context));
  CUstream stream = new_stream(CU_STREAM_NON_BLOCKING);
  CUevent begin;
  CUevent end;
  OK(cuEventCreate(&begin, 0));
  OK(cuEventCreate(&end, 0));
  OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  launch(20 * US, 10, stream);
  OK(cuStreamEndCapture(stream, &graph));
  OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
  for (long i = 0; i < launches; i++) {
    CUdeviceptr p;
    OK(cuEventRecord(begin, stream));
    launch(5 * US, 10, stream);
    launch(3 * US, 10, CU_STREAM_PER_THREAD);
    if (i % 8 == 0) OK(cuGraphLaunch(exec, stream));
    OK(cuEventRecord(end, stream));
    OK(cuStreamWaitEvent(CU_STREAM_PER_THREAD, end, 0));
    if (i % 16 == 0) OK(cuLaunchHostFunc(stream, count_one, &called));
    OK(cuMemAllocAsync(&p, MIB, stream));
    OK(cuMemFreeAsync(p, stream));
    if (i % 32 == 0) OK(cuEventSynchronize(end));
    if (i % 64 == 0) launch(US, 10, NULL);
  }
  OK(cuStreamSynchronize(stream));
  CHECK(__atomic_load_n(&called, __ATOMIC_SEQ_CST) == (launches + 15) / 16);
  OK(cuGraphExecDestroy(exec));
  OK(cuGraphDestroy(graph));
  OK(cuEventDestroy_v2(begin));
  OK(cuEventDestroy_v2(end));
  OK(cuStreamDestroy_v2(stream));
  return unused;
}

static int threads(long number) {
  pthread_t thread[32];
  if (number < 1 || number > 32) return 64;
  start();
  for (long i = 0; i < number; i++) EXPECT(pthread_create(&thread[i], NULL, work, NULL), 0);
  for (long i = 0; i < number; i++) EXPECT(pthread_join(thread[i], NULL), 0);
  OK(cuCtxSynchronize());
  CHECK(used() == 0);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "streams") == 0) return streams();
  if (argc == 2 && strcmp(argv[1], "graphs") == 0) return graphs();
  if (argc != 4 || strcmp(argv[1], "threads") != 0) return 64;
  launches = atol(argv[3]);
  return threads(atol(argv[2]));
}
