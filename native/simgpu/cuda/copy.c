/* Copies of and writes to linear memory.  They take no time on the card.  Synchronous ones wait for what is before them
 * in the default stream; asynchronous ones move their bytes at once, since no kernel changes any, unless work of the
 * host, which may, waits to be done before them. */
#include <string.h>

#include "host_work.h"
#include "memory.h"
#include "stream.h"

static CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t size) {
  memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, size);
  return CUDA_SUCCESS;
}

static CUresult begin(CUstream handle) {
  CUstream stream;
  TRY(stream_find(handle, &stream));
  return host_work_pending() ? queue_wait(stream->queue) : CUDA_SUCCESS;
}

CUresult cuMemcpyAsync(CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream) {
  TRY(begin(hStream));
  TRY(memory_check_any(dst, ByteCount));
  TRY(memory_check_any(src, ByteCount));
  return copy(dst, src, ByteCount);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream) {
  TRY(begin(hStream));
  NEED(srcHost != NULL || ByteCount == 0);
  TRY(memory_check_device(dstDevice, ByteCount));
  return copy(dstDevice, (uintptr_t)srcHost, ByteCount);
}

CUresult cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
  TRY(begin(hStream));
  NEED(dstHost != NULL || ByteCount == 0);
  TRY(memory_check_device(srcDevice, ByteCount));
  return copy((uintptr_t)dstHost, srcDevice, ByteCount);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) {
  TRY(begin(hStream));
  TRY(memory_check_device(dstDevice, ByteCount));
  TRY(memory_check_device(srcDevice, ByteCount));
  return copy(dstDevice, srcDevice, ByteCount);
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

/* `height` rows of `width` elements of `element` bytes, `pitch` bytes apart. */
static CUresult set(CUdeviceptr to, size_t pitch, const void *value, size_t element, size_t width, size_t height,
                    CUstream stream) {
  size_t row;
  size_t span;
  TRY(begin(stream));
  NEED(to % element == 0 && pitch % element == 0);
  if (width == 0 || height == 0) return CUDA_SUCCESS;
  NEED(!__builtin_mul_overflow(width, element, &row) && (height == 1 || pitch >= row));
  NEED(!__builtin_mul_overflow(pitch, height - 1, &span) && !__builtin_add_overflow(span, row, &span));
  TRY(memory_check_device(to, span));
  for (size_t y = 0; y < height; y++) {
    unsigned char *line = (unsigned char *)(uintptr_t)to + y * pitch;
    if (element == 1)
      memset(line, *(const unsigned char *)value, row);
    else
      for (size_t x = 0; x < row; x += element) memcpy(line + x, value, element);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) {
  return set(dstDevice, 0, &uc, sizeof uc, N, 1, hStream);
}

CUresult cuMemsetD16Async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream) {
  return set(dstDevice, 0, &us, sizeof us, N, 1, hStream);
}

CUresult cuMemsetD32Async(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream) {
  return set(dstDevice, 0, &ui, sizeof ui, N, 1, hStream);
}

CUresult cuMemsetD2D8Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned char uc, size_t Width, size_t Height,
                           CUstream hStream) {
  return set(dstDevice, dstPitch, &uc, sizeof uc, Width, Height, hStream);
}

CUresult cuMemsetD2D16Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned short us, size_t Width, size_t Height,
                            CUstream hStream) {
  return set(dstDevice, dstPitch, &us, sizeof us, Width, Height, hStream);
}

CUresult cuMemsetD2D32Async(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width, size_t Height,
                            CUstream hStream) {
  return set(dstDevice, dstPitch, &ui, sizeof ui, Width, Height, hStream);
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
