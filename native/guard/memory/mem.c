/* Synchronous allocations: linear, pitched, managed; and every way to free a pointer.
 *
 * Charged are the bytes asked for (pitched: the driver's pitch times the height; managed: in full, as all of it may come to lie on
 * the device).  The driver's own rounding is not charged. */
#include "admit.h"
#include "driver.h"
#include "flight.h"
#include "gate.h"
#include "overflow.h"

enum { PITCH_ALIGNMENT = 512 }; /* of every device so far; a driver that takes more is charged more afterwards */

static void give_back(uint64_t pointer) {
  __typeof__(&cuMemFree_v2) real = REAL(cuMemFree_v2);
  if (real != NULL) (void)real(pointer);
}

static CUresult settle(struct admission *admission, CUresult result, CUdeviceptr pointer) {
  return admit_settle(admission, result, LEDGER_POINTER, pointer, give_back);
}

GUARD_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
  BEGIN_HOOK(cuMemAlloc_v2, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  struct device_place place;
  if (!limited || pointer == NULL || !device_current(&place)) return real(pointer, bytes);
  struct admission admission;
  CUresult result = admit_quietly(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return overflow_allocate(pointer, bytes, place.device);
  result = real(pointer, bytes);
  return settle(&admission, result, *pointer);
}

GUARD_EXPORT CUresult cuMemAlloc(CUdeviceptr_v1 *pointer, unsigned int bytes) {
  BEGIN_HOOK(cuMemAlloc, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  struct device_place place;
  if (!limited || pointer == NULL || !device_current(&place)) return real(pointer, bytes);
  struct admission admission;
  CUresult result = admit(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return result;
  result = real(pointer, bytes);
  return settle(&admission, result, *pointer);
}

GUARD_EXPORT CUresult cuMemAllocManaged(CUdeviceptr *pointer, size_t bytes, unsigned int flags) {
  BEGIN_HOOK(cuMemAllocManaged, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  struct device_place place;
  if (!limited || pointer == NULL || !device_current(&place)) return real(pointer, bytes, flags);
  struct admission admission;
  CUresult result = admit_quietly(&admission, &place, bytes);
  if (result != CUDA_SUCCESS) return overflow_allocate(pointer, bytes, place.device);
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
    give_back(pointer);
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  return settle(admission, result, pointer);
}

/* Managed memory has no pitch of its own: the alignment of every device so far serves. */
static CUresult overflow_pitched(CUdeviceptr *pointer, size_t *pitch, uint64_t bytes, size_t height, CUdevice device) {
  if (height == 0) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = overflow_allocate(pointer, bytes, device);
  if (result == CUDA_SUCCESS) *pitch = (size_t)(bytes / height);
  return result;
}

GUARD_EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height,
                                         unsigned int element) {
  BEGIN_HOOK(cuMemAllocPitch_v2, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  struct device_place place;
  if (!limited || pointer == NULL || pitch == NULL || !device_current(&place))
    return real(pointer, pitch, width, height, element);
  struct admission admission;
  CUresult result = admit_quietly(&admission, &place, pitched_bytes(width, height));
  if (result != CUDA_SUCCESS)
    return overflow_pitched(pointer, pitch, pitched_bytes(width, height), height, place.device);
  result = real(pointer, pitch, width, height, element);
  return settle_pitched(&admission, result, *pointer, (uint64_t)*pitch * height);
}

GUARD_EXPORT CUresult cuMemAllocPitch(CUdeviceptr_v1 *pointer, unsigned int *pitch, unsigned int width,
                                      unsigned int height, unsigned int element) {
  BEGIN_HOOK(cuMemAllocPitch, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
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
  BEGIN_HOOK(cuMemFree_v2, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(pointer);
  struct refund refund = refund_begin(LEDGER_POINTER, pointer);
  return refund_end(&refund, real(pointer));
}

GUARD_EXPORT CUresult cuMemFree(CUdeviceptr_v1 pointer) {
  BEGIN_HOOK(cuMemFree, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(pointer);
  struct refund refund = refund_begin(LEDGER_POINTER, pointer);
  return refund_end(&refund, real(pointer));
}
