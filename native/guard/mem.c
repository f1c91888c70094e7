/* Synchronous allocations: linear, pitched, managed; and every way to free a pointer.
 *
 * Charged are the bytes asked for (pitched: the driver's pitch times the height; managed: in full, as all of it may come to lie on
 * the device).  The driver's own rounding is not charged. */
#include "admit.h"
#include "driver.h"
#include "gate.h"

enum { PITCH_ALIGNMENT = 512 }; /* of every device so far; a driver that takes more is charged more afterwards */

/* After the driver's answer: keep the charge or cancel it. */
static CUresult settle(struct admission *admission, CUresult result, CUdeviceptr pointer) {
  if (result != CUDA_SUCCESS) {
    admit_cancel(admission);
    return result;
  }
  if (admit_keep(admission, LEDGER_POINTER, pointer)) return CUDA_SUCCESS;
  __typeof__(&cuMemFree_v2) give_back = REAL(cuMemFree_v2);
  if (give_back != NULL) (void)give_back(pointer);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

GUARD_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  __typeof__(&cuMemAlloc_v2) real = REAL(cuMemAlloc_v2);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct device_place place;
  if (!limited || pointer == NULL || !device_current(&place)) return real(pointer, bytes);
  struct admission admission;
  CUresult result = admit(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, bytes);
  return settle(&admission, result, *pointer);
}

GUARD_EXPORT CUresult cuMemAlloc(CUdeviceptr_v1 *pointer, unsigned int bytes) {
  __typeof__(&cuMemAlloc) real = REAL(cuMemAlloc);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct device_place place;
  if (!limited || pointer == NULL || !device_current(&place)) return real(pointer, bytes);
  struct admission admission;
  CUresult result = admit(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, bytes);
  return settle(&admission, result, *pointer);
}

GUARD_EXPORT CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t bytes, unsigned int flags) {
  __typeof__(&cuMemAllocManaged) real = REAL(cuMemAllocManaged);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct device_place place;
  if (!limited || pointer == NULL || !device_current(&place)) return real(pointer, bytes, flags);
  struct admission admission;
  CUresult result = admit(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, bytes, flags);
  return settle(&admission, result, *pointer);
}

/* width * height with the width rounded up to the pitch; UINT64_MAX when that is no number. */
static uint64_t pitched_bytes(uint64_t width, uint64_t height) {
  uint64_t padded, bytes;
  if (__builtin_add_overflow(width, (uint64_t)PITCH_ALIGNMENT - 1, &padded)) return UINT64_MAX;
  padded -= padded % PITCH_ALIGNMENT;
  return __builtin_mul_overflow(padded, height, &bytes) ? UINT64_MAX : bytes;
}

static CUresult settle_pitched(struct admission *admission, CUresult result, CUdeviceptr pointer, uint64_t actual) {
  if (result == CUDA_SUCCESS && !admit_resize(admission, actual)) {
    __typeof__(&cuMemFree_v2) give_back = REAL(cuMemFree_v2);
    if (give_back != NULL) (void)give_back(pointer);
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  return settle(admission, result, pointer);
}

GUARD_EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height,
                                         unsigned int element) {
  __typeof__(&cuMemAllocPitch_v2) real = REAL(cuMemAllocPitch_v2);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct device_place place;
  if (!limited || pointer == NULL || pitch == NULL || !device_current(&place))
    return real(pointer, pitch, width, height, element);
  struct admission admission;
  CUresult result = admit(&admission, &place, pitched_bytes(width, height));
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, pitch, width, height, element);
  return settle_pitched(&admission, result, *pointer, (uint64_t)*pitch * height);
}

GUARD_EXPORT CUresult cuMemAllocPitch(CUdeviceptr_v1 *pointer, unsigned int *pitch, unsigned int width,
                                      unsigned int height, unsigned int element) {
  __typeof__(&cuMemAllocPitch) real = REAL(cuMemAllocPitch);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  struct device_place place;
  if (!limited || pointer == NULL || pitch == NULL || !device_current(&place))
    return real(pointer, pitch, width, height, element);
  struct admission admission;
  CUresult result = admit(&admission, &place, pitched_bytes(width, height));
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, pitch, width, height, element);
  return settle_pitched(&admission, result, *pointer, (uint64_t)*pitch * height);
}

GUARD_EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer) {
  __typeof__(&cuMemFree_v2) real = REAL(cuMemFree_v2);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  if (!limited) return real(pointer);
  struct refund refund = refund_begin(LEDGER_POINTER, pointer);
  return refund_end(&refund, real(pointer));
}

GUARD_EXPORT CUresult cuMemFree(CUdeviceptr_v1 pointer) {
  __typeof__(&cuMemFree) real = REAL(cuMemFree);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  if (!limited) return real(pointer);
  struct refund refund = refund_begin(LEDGER_POINTER, pointer);
  return refund_end(&refund, real(pointer));
}
