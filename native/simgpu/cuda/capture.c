/* Capture of streams: never under way. */
#include "stream.h"

CUresult cuStreamIsCapturing(CUstream hStream, CUstreamCaptureStatus *captureStatus) {
  CUstream stream;
  NEED(captureStatus != NULL);
  TRY(stream_find(hStream, &stream));
  *captureStatus = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   size_t *numDependencies_out) {
  if (id_out != NULL) *id_out = 0;
  if (graph_out != NULL) *graph_out = NULL;
  if (dependencies_out != NULL) *dependencies_out = NULL;
  if (numDependencies_out != NULL) *numDependencies_out = 0;
  return cuStreamIsCapturing(hStream, captureStatus_out);
}

CUresult cuStreamGetCaptureInfo_v3(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out,
                                   CUgraph *graph_out, const CUgraphNode **dependencies_out,
                                   const CUgraphEdgeData **edgeData_out, size_t *numDependencies_out) {
  if (edgeData_out != NULL) *edgeData_out = NULL;
  return cuStreamGetCaptureInfo_v2(hStream, captureStatus_out, id_out, graph_out, dependencies_out,
                                   numDependencies_out);
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  static __thread CUstreamCaptureMode present = CU_STREAM_CAPTURE_MODE_GLOBAL;
  NEED(mode != NULL);
  TRY(driver_ready());
  CUstreamCaptureMode before = present;
  present = *mode;
  *mode = before;
  return CUDA_SUCCESS;
}
