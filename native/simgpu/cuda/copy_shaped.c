/* Copies of two and three dimensions, and those into and out of arrays. */
#include "array.h"
#include "capture.h"
#include "memory.h"
#include "transfer.h"

/* One side of a copy: where its first byte is, and how far apart rows and slices are. */
typedef struct side {
  CUmemorytype type;
  uintptr_t memory; /* of host, device or unified memory */
  CUarray array;
  size_t x_bytes, y, z;
  size_t pitch;       /* 0: rows are packed */
  size_t slice_rows;  /* 0: slices are packed */
  uintptr_t first;    /* worked out by place() */
  size_t slice_pitch; /* likewise */
} side;

typedef struct extent {
  size_t width_bytes, height, depth;
} extent;

/* offset + size of a box of rows that begins at x, y, z; false when it overflows. */
static bool span(const side *at, const extent *box, size_t *offset, size_t *size) {
  size_t y;
  size_t z;
  size_t last_row;
  size_t last_slice;
  return !__builtin_mul_overflow(at->pitch, at->y, &y) && !__builtin_mul_overflow(at->slice_pitch, at->z, &z) &&
         !__builtin_add_overflow(y, z, offset) && !__builtin_add_overflow(*offset, at->x_bytes, offset) &&
         !__builtin_mul_overflow(at->pitch, box->height - 1, &last_row) &&
         !__builtin_mul_overflow(at->slice_pitch, box->depth - 1, &last_slice) &&
         !__builtin_add_overflow(last_row, last_slice, size) && !__builtin_add_overflow(*size, box->width_bytes, size);
}

static CUresult place(side *at, const extent *box) {
  size_t offset;
  size_t size;
  uintptr_t base = at->memory;
  if (at->type == CU_MEMORYTYPE_ARRAY) {
    TRY(array_check(at->array));
    NEED(at->x_bytes <= at->array->row_bytes && box->width_bytes <= at->array->row_bytes - at->x_bytes);
    NEED(at->y <= at->array->rows && box->height <= at->array->rows - at->y);
    NEED(at->z <= at->array->slices && box->depth <= at->array->slices - at->z);
    base = at->array->base;
    at->pitch = at->array->row_bytes;
    at->slice_rows = at->array->rows;
  }
  if (at->pitch == 0) at->pitch = at->x_bytes + box->width_bytes;
  if (at->slice_rows == 0) at->slice_rows = box->height;
  NEED(base != 0 && (box->height == 1 || at->pitch >= box->width_bytes));
  NEED(!__builtin_mul_overflow(at->pitch, at->slice_rows, &at->slice_pitch) && span(at, box, &offset, &size));
  at->first = base + offset;
  if (at->type == CU_MEMORYTYPE_DEVICE) return memory_check_device(at->first, size);
  return at->type == CU_MEMORYTYPE_UNIFIED ? memory_check_any(at->first, size) : CUDA_SUCCESS;
}

static CUresult copy_box(side *to, side *from, const extent *box, CUstream stream) {
  if (box->width_bytes == 0 || box->height == 0 || box->depth == 0) return CUDA_SUCCESS;
  TRY(place(to, box));
  TRY(place(from, box));
  const transfer_box placed = {.to = to->first,
                               .from = from->first,
                               .to_pitch = to->pitch,
                               .to_slice = to->slice_pitch,
                               .from_pitch = from->pitch,
                               .from_slice = from->slice_pitch,
                               .width_bytes = box->width_bytes,
                               .height = box->height,
                               .depth = box->depth};
  return transfer_move(&placed, stream);
}

static uintptr_t pick(CUmemorytype type, const void *host, CUdeviceptr device) {
  return type == CU_MEMORYTYPE_HOST ? (uintptr_t)host : (uintptr_t)device;
}

static bool known(CUmemorytype type) { return type >= CU_MEMORYTYPE_HOST && type <= CU_MEMORYTYPE_UNIFIED; }

static CUDA_MEMCPY3D deepened(const CUDA_MEMCPY2D *flat) {
  return (CUDA_MEMCPY3D){.srcMemoryType = flat->srcMemoryType,
                         .srcHost = flat->srcHost,
                         .srcDevice = flat->srcDevice,
                         .srcArray = flat->srcArray,
                         .srcXInBytes = flat->srcXInBytes,
                         .srcY = flat->srcY,
                         .srcPitch = flat->srcPitch,
                         .dstMemoryType = flat->dstMemoryType,
                         .dstHost = flat->dstHost,
                         .dstDevice = flat->dstDevice,
                         .dstArray = flat->dstArray,
                         .dstXInBytes = flat->dstXInBytes,
                         .dstY = flat->dstY,
                         .dstPitch = flat->dstPitch,
                         .WidthInBytes = flat->WidthInBytes,
                         .Height = flat->Height,
                         .Depth = 1};
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *pCopy, CUstream hStream) {
  NEED(pCopy != NULL);
  const CUDA_MEMCPY3D copy = deepened(pCopy);
  return cuMemcpy3DAsync_v2(&copy, hStream);
}

CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy) {
  TRY(stream_synchronous());
  return cuMemcpy2DAsync_v2(pCopy, NULL);
}

CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *pCopy) { return cuMemcpy2D_v2(pCopy); }

CUresult transfer_copy(const CUDA_MEMCPY3D *pCopy, CUstream stream) {
  NEED(known(pCopy->srcMemoryType) && known(pCopy->dstMemoryType));
  NEED(pCopy->srcLOD == 0 && pCopy->dstLOD == 0);
  side from = {.type = pCopy->srcMemoryType,
               .memory = pick(pCopy->srcMemoryType, pCopy->srcHost, pCopy->srcDevice),
               .array = pCopy->srcArray,
               .x_bytes = pCopy->srcXInBytes,
               .y = pCopy->srcY,
               .z = pCopy->srcZ,
               .pitch = pCopy->srcPitch,
               .slice_rows = pCopy->srcHeight};
  side to = {.type = pCopy->dstMemoryType,
             .memory = pick(pCopy->dstMemoryType, pCopy->dstHost, pCopy->dstDevice),
             .array = pCopy->dstArray,
             .x_bytes = pCopy->dstXInBytes,
             .y = pCopy->dstY,
             .z = pCopy->dstZ,
             .pitch = pCopy->dstPitch,
             .slice_rows = pCopy->dstHeight};
  const extent box = {.width_bytes = pCopy->WidthInBytes, .height = pCopy->Height, .depth = pCopy->Depth};
  return copy_box(&to, &from, &box, stream);
}

CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *pCopy, CUstream hStream) {
  CUstream stream;
  bool captured = false;
  NEED(pCopy != NULL);
  TRY(stream_find(hStream, &stream));
  if (capture_any()) TRY(transfer_capture(pCopy, stream, &captured));
  return captured ? CUDA_SUCCESS : transfer_copy(pCopy, stream);
}

CUresult cuMemcpy3D_v2(const CUDA_MEMCPY3D *pCopy) {
  TRY(stream_synchronous());
  return cuMemcpy3DAsync_v2(pCopy, NULL);
}

/* ---- arrays as rows of bytes ------------------------------------------------------------------------------------- */

/* A row between an array and other memory, or another array. */
typedef struct row_end {
  CUarray array;
  uintptr_t memory;
  size_t offset;
} row_end;

static CUresult copy_row(row_end to, row_end from, size_t size, CUstream stream) {
  const CUDA_MEMCPY3D copy = {.srcMemoryType = from.array != NULL ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_UNIFIED,
                              .srcDevice = from.memory,
                              .srcArray = from.array,
                              .srcXInBytes = from.offset,
                              .dstMemoryType = to.array != NULL ? CU_MEMORYTYPE_ARRAY : CU_MEMORYTYPE_UNIFIED,
                              .dstDevice = to.memory,
                              .dstArray = to.array,
                              .dstXInBytes = to.offset,
                              .WidthInBytes = size,
                              .Height = 1,
                              .Depth = 1};
  return cuMemcpy3DAsync_v2(&copy, stream);
}

CUresult cuMemcpyHtoAAsync_v2(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount,
                              CUstream hStream) {
  return copy_row((row_end){.array = dstArray, .offset = dstOffset}, (row_end){.memory = (uintptr_t)srcHost}, ByteCount,
                  hStream);
}

CUresult cuMemcpyAtoHAsync_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount, CUstream hStream) {
  return copy_row((row_end){.memory = (uintptr_t)dstHost}, (row_end){.array = srcArray, .offset = srcOffset}, ByteCount,
                  hStream);
}

CUresult cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount) {
  TRY(stream_synchronous());
  return cuMemcpyHtoAAsync_v2(dstArray, dstOffset, srcHost, ByteCount, NULL);
}

CUresult cuMemcpyAtoH_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  TRY(stream_synchronous());
  return cuMemcpyAtoHAsync_v2(dstHost, srcArray, srcOffset, ByteCount, NULL);
}

CUresult cuMemcpyDtoA_v2(CUarray dstArray, size_t dstOffset, CUdeviceptr srcDevice, size_t ByteCount) {
  TRY(stream_synchronous());
  return copy_row((row_end){.array = dstArray, .offset = dstOffset}, (row_end){.memory = (uintptr_t)srcDevice},
                  ByteCount, NULL);
}

CUresult cuMemcpyAtoD_v2(CUdeviceptr dstDevice, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  TRY(stream_synchronous());
  return copy_row((row_end){.memory = (uintptr_t)dstDevice}, (row_end){.array = srcArray, .offset = srcOffset},
                  ByteCount, NULL);
}

CUresult cuMemcpyAtoA_v2(CUarray dstArray, size_t dstOffset, CUarray srcArray, size_t srcOffset, size_t ByteCount) {
  TRY(stream_synchronous());
  return copy_row((row_end){.array = dstArray, .offset = dstOffset}, (row_end){.array = srcArray, .offset = srcOffset},
                  ByteCount, NULL);
}
