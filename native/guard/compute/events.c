#include "events.h"

#include "driver.h"
#include "prim.h"

static void *create(void) {
  cuEventCreate_fn *make = DRIVER(cuEventCreate);
  CUevent event = NULL;
  return make != NULL && make(&event, CU_EVENT_DEFAULT) == CUDA_SUCCESS ? event : NULL;
}

static bool record(void *event, void *stream) {
  cuEventRecord_fn *put = DRIVER(cuEventRecord);
  return put != NULL && put(event, stream) == CUDA_SUCCESS;
}

static int done(void *event) {
  cuEventQuery_fn *ask = DRIVER(cuEventQuery);
  CUresult result = ask != NULL ? ask(event) : CUDA_ERROR_NOT_INITIALIZED;
  return result == CUDA_SUCCESS ? 1 : result == CUDA_ERROR_NOT_READY ? 0 : -1;
}

static bool elapsed(float *ms, void *start, void *end) {
  cuEventElapsedTime_fn *ask = (cuEventElapsedTime_fn *)DRIVER(cuEventElapsedTime_v2);
  if (ask == NULL) ask = DRIVER(cuEventElapsedTime);
  return ask != NULL && ask(ms, start, end) == CUDA_SUCCESS;
}

static bool idle(void *stream) {
  cuStreamQuery_fn *ask = DRIVER(cuStreamQuery);
  return ask != NULL && ask(stream) == CUDA_SUCCESS;
}

const meter_driver events_driver = {create, record, done, elapsed, idle, prim_monotonic_ns};
