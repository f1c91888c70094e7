/* Copies of and writes to linear memory.  Synchronous ones wait for what is before them in the default stream. */
#include "capture.h"
#include "memory.h"
#include "transfer.h"

/* One row of bytes, between memory that has been checked. */
static CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream handle) {
  CUstream stream;
  bool captured = false;
  TRY(stream_find(handle, &stream));
  if (capture_any()) {
    const CUDA_MEMCPY3D described = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                                     .srcDevice = from,
                                     .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                                     .dstDevice = to,
                                     .WidthInBytes = size,
                                     .Height = 1,
                                     .Depth = 1};
    TRY(transfer_capture(&described, stream, &captured));
  }
  if (captured) return CUDA_SUCCESS;
  const transfer_box box = {.to = to, .from = from, .width_bytes = size, .height = 1, .depth = 1};
  return transfer_move(&box, stream);
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
  TRY(driver_ready());
  TRY(memory_check_any(dst, ByteCount));
  TRY(memory_check_any(src, ByteCount));
  return copy(dst, src, ByteCount, hStream);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream) {
  TRY(driver_ready());
  NEED(srcHost != NULL || ByteCount == 0);
  TRY(memory_check_device(dstDevice, ByteCount));
  return copy(dstDevice, (uintptr_t)srcHost, ByteCount, hStream);
}

CUresult cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
  TRY(driver_ready());
  NEED(dstHost != NULL || ByteCount == 0);
  TRY(memory_check_device(srcDevice, ByteCount));
  return copy((uintptr_t)dstHost, srcDevice, ByteCount, hStream);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
  TRY(driver_ready());
  TRY(memory_check_device(dstDevice, ByteCount));
  TRY(memory_check_device(srcDevice, ByteCount));
  return copy(dstDevice, srcDevice, ByteCount, hStream);
}

CUresult cuMemcpyPeerAsync(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                           size_t ByteCount, CUstream hStream) {
  TRY(context_or_current(dstContext, &dstContext));
  TRY(context_or_current(srcContext, &srcContext));
  return cuMemcpyDtoDAsync_v2(dstDevice, srcDevice, ByteCount, hStream);
}

CUresult cuMemcpy(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount) {
  TRY(stream_synchronous());
  return cuMemcpyAsync(dst, src, ByteCount, NULL);
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount) {
  TRY(stream_synchronous());
  return cuMemcpyHtoDAsync_v2(dstDevice, srcHost, ByteCount, NULL);
}

CUresult cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount) {
  TRY(stream_synchronous());
  return cuMemcpyDtoHAsync_v2(dstHost, srcDevice, ByteCount, NULL);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount) {
  TRY(stream_synchronous());
  return cuMemcpyDtoDAsync_v2(dstDevice, srcDevice, ByteCount, NULL);
}

CUresult cuMemcpyPeer(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext,
                      size_t ByteCount) {
  TRY(stream_synchronous());
  return cuMemcpyPeerAsync(dstDevice, dstContext, srcDevice, srcContext, ByteCount, NULL);
}

/* ---- writes ------------------------------------------------------------------------------------------------------ */

static CUresult set(CUdeviceptr to, size_t pitch, unsigned int value, unsigned int element, size_t width, size_t height,
                    CUstream handle) {
  CUstream stream;
  bool captured = false;
  CUgraphNodeParams params = {
      .type = CU_GRAPH_NODE_TYPE_MEMSET,
      .memset = {.dst = to, .pitch = pitch, .value = value, .elementSize = element, .width = width, .height = height}};
  TRY(stream_find(handle, &stream));
  if (capture_any()) TRY(capture_node(stream, &params, &captured));
  return captured ? CUDA_SUCCESS : transfer_set(&params.memset, stream);
}

CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) {
  return set(dstDevice, 0, uc, sizeof uc, N, 1, hStream);
}

CUresult cuMemsetD16Async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream) {
  return set(dstDevice, 0, us, sizeof us, N, 1, hStream);
}

CUresult cuMemsetD32Async(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream) {
  return set(dstDevice, 0, ui, sizeof ui, N, 1, hStream);
}

CUresult cuMemsetD2D8Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width, size_t Height,
                           CUstream hStream) {
  return set(dstDevice, dstPitch, uc, sizeof uc, Width, Height, hStream);
}

CUresult cuMemsetD2D16Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width, size_t Height,
                            CUstream hStream) {
  return set(dstDevice, dstPitch, us, sizeof us, Width, Height, hStream);
}

CUresult cuMemsetD2D32Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width, size_t Height,
                            CUstream hStream) {
  return set(dstDevice, dstPitch, ui, sizeof ui, Width, Height, hStream);
}

CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N) {
  TRY(stream_synchronous());
  return cuMemsetD8Async(dstDevice, uc, N, NULL);
}

CUresult cuMemsetD16_v2(CUdeviceptr dstDevice, unsigned short us, size_t N) {
  TRY(stream_synchronous());
  return cuMemsetD16Async(dstDevice, us, N, NULL);
}

CUresult cuMemsetD32_v2(CUdeviceptr dstDevice, unsigned int ui, size_t N) {
  TRY(stream_synchronous());
  return cuMemsetD32Async(dstDevice, ui, N, NULL);
}

CUresult cuMemsetD2D8_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width, size_t Height) {
  TRY(stream_synchronous());
  return cuMemsetD2D8Async(dstDevice, dstPitch, uc, Width, Height, NULL);
}

CUresult cuMemsetD2D16_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width, size_t Height) {
  TRY(stream_synchronous());
  return cuMemsetD2D16Async(dstDevice, dstPitch, us, Width, Height, NULL);
}

CUresult cuMemsetD2D32_v2(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width, size_t Height) {
  TRY(stream_synchronous());
  return cuMemsetD2D32Async(dstDevice, dstPitch, ui, Width, Height, NULL);
}
