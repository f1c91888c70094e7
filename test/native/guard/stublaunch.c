/* The stub driver's device: every kernel takes STUB_KERNEL_NS on its stream, by the host's clock; STUB_EVENTS=none: there are no events
 * to be had. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hooks.h"

#define API __attribute__((visibility("default")))
enum { STREAMS = 16 };

long long stubLaunches(void);
cuEventCreate_fn cuEventCreate;
cuEventRecord_fn cuEventRecord;
cuEventQuery_fn cuEventQuery;
cuEventElapsedTime_fn cuEventElapsedTime;
cuStreamQuery_fn cuStreamQuery;
cuStreamIsCapturing_fn cuStreamIsCapturing;
cuThreadExchangeStreamCaptureMode_fn cuThreadExchangeStreamCaptureMode;

struct CUevent_st {
  uint64_t reached_ns;
};

static uint64_t busy_until[STREAMS];
static long long launches;
static bool capturing;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Per-thread twins mean another default stream. */
static CUstream own(CUstream stream) { return stream == NULL ? CU_STREAM_PER_THREAD : stream; }

static uint64_t *end_of(CUstream stream) { return &busy_until[(uintptr_t)stream % STREAMS]; }

static uint64_t setting(const char *name) {
  const char *text = getenv(name);
  return text != NULL ? strtoull(text, NULL, 10) : 0;
}

static CUresult run(CUstream stream) {
  uint64_t begin = now();
  if (capturing) return 0;
  if (*end_of(stream) > begin) begin = *end_of(stream);
  *end_of(stream) = begin + setting("STUB_KERNEL_NS");
  launches++;
  return 0;
}

API long long stubLaunches(void) { return launches; }

#define KERNEL(name, on)                                                                                               \
  API CUresult name(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, \
                    unsigned int bz, unsigned int shared, CUstream stream, void **parameters, void **extra) {          \
    return (void)f, (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz, (void)shared, (void)parameters,        \
           (void)extra, run(on(stream));                                                                               \
  }
KERNEL(cuLaunchKernel, )
KERNEL(cuLaunchKernel_ptsz, own)

#define COOPERATIVE(name, on)                                                                                          \
  API CUresult name(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, \
                    unsigned int bz, unsigned int shared, CUstream stream, void **parameters) {                        \
    return cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, on(stream), parameters, NULL);                            \
  }
COOPERATIVE(cuLaunchCooperativeKernel, )
COOPERATIVE(cuLaunchCooperativeKernel_ptsz, own)

#define EX(name, on)                                                                               \
  API CUresult name(const CUlaunchConfig *config, CUfunction f, void **parameters, void **extra) { \
    return (void)f, (void)parameters, (void)extra, run(on(config->hStream));                       \
  }
EX(cuLaunchKernelEx, )
EX(cuLaunchKernelEx_ptsz, own)

API CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *list, unsigned int count, unsigned int flags) {
  for (unsigned int i = 0; i < count; i++) (void)run(list[i].hStream);
  return (void)flags, 0;
}
API CUresult cuLaunch(CUfunction f) { return (void)f, run(NULL); }
API CUresult cuLaunchGrid(CUfunction f, int width, int height) { return (void)f, (void)width, (void)height, run(NULL); }
API CUresult cuLaunchGridAsync(CUfunction f, int width, int height, CUstream stream) {
  return (void)f, (void)width, (void)height, run(stream);
}
API CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) { return (void)exec, run(stream); }
API CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) { return (void)exec, run(own(stream)); }

static CUresult capture(CUstream stream) { return (void)stream, capturing = !capturing, 0; }
API CUresult cuStreamBeginCapture(CUstream stream) { return capture(stream); }
API CUresult cuStreamBeginCapture_ptsz(CUstream stream) { return capture(stream); }
API CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) { return (void)mode, capture(stream); }
API CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
  return (void)mode, capture(stream);
}
API CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode *nodes,
                                         const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode) {
  return (void)graph, (void)nodes, (void)edges, (void)count, (void)mode, capture(stream);
}
API CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const CUgraphNode *nodes,
                                              const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode) {
  return cuStreamBeginCaptureToGraph(stream, graph, nodes, edges, count, mode);
}
API CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  *status = capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  return (void)stream, 0;
}
API CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) { return (void)mode, 0; }

API CUresult cuStreamQuery(CUstream stream) { return *end_of(stream) <= now() ? 0 : CUDA_ERROR_NOT_READY; }
API CUresult cuEventCreate(CUevent *event, unsigned int flags) {
  const char *events = getenv("STUB_EVENTS");
  *event = events != NULL && strcmp(events, "none") == 0 ? NULL : calloc(1, sizeof **event);
  return (void)flags, *event != NULL ? 0 : CUDA_ERROR_OUT_OF_MEMORY;
}
API CUresult cuEventRecord(CUevent event, CUstream stream) {
  uint64_t time = now();
  event->reached_ns = *end_of(stream) > time ? *end_of(stream) : time;
  return capturing ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : 0;
}
API CUresult cuEventQuery(CUevent event) { return event->reached_ns <= now() ? 0 : CUDA_ERROR_NOT_READY; }
API CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end) {
  *ms = (float)((double)(int64_t)(end->reached_ns - start->reached_ns) / 1e6);
  return 0;
}
