/* What a program sees of a device's memory: its shares, through CUDA and through NVML alike. */
#include "device.h"
#include "driver.h"
#include "gate.h"
#include "pool.h"

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t plus(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

struct memory {
  uint64_t total, free;
  uint64_t used; /* by the share's processes */
};

/* Replaces the device's figures by the shares'; false when there is nothing to replace.  Where the shares allow managed memory beyond
 * their part of the card, it is part of the total: that much a program can allocate. */
static bool narrow(struct memory *memory, share_set shares) {
  struct share_view view;
  if (shares == 0) return false;
  share_look(shares, &view);
  if (!view.limited) return false;
  uint64_t on_device = least(view.device.limit_bytes, memory->total);
  memory->total = plus(on_device, view.managed.limit_bytes);
  memory->free = plus(least(least(view.device.free_bytes, memory->free), on_device), view.managed.free_bytes);
  memory->used = least(plus(view.device.used_bytes, view.managed.used_bytes), memory->total);
  return true;
}

static bool narrow_current(struct memory *memory) {
  struct device_place place;
  share_set shares;
  return device_current(&place) && device_shares(place.device, &shares) && narrow(memory, shares);
}

GUARD_EXPORT CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
  BEGIN_HOOK(cuMemGetInfo_v2, CUDA_ERROR_NOT_INITIALIZED);
  if (limited) pool_refresh();
  CUresult result = real(free_bytes, total_bytes);
  if (!limited || result != CUDA_SUCCESS) return result;
  struct memory memory = {
      .total = total_bytes != NULL ? *total_bytes : UINT64_MAX,
      .free = free_bytes != NULL ? *free_bytes : UINT64_MAX,
  };
  if (!narrow_current(&memory)) return result;
  if (total_bytes != NULL) *total_bytes = (size_t)memory.total;
  if (free_bytes != NULL) *free_bytes = (size_t)memory.free;
  return result;
}

GUARD_EXPORT CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total_bytes) {
  BEGIN_HOOK(cuMemGetInfo, CUDA_ERROR_NOT_INITIALIZED);
  if (limited) pool_refresh();
  CUresult result = real(free_bytes, total_bytes);
  if (!limited || result != CUDA_SUCCESS) return result;
  struct memory memory = {
      .total = total_bytes != NULL ? *total_bytes : UINT32_MAX,
      .free = free_bytes != NULL ? *free_bytes : UINT32_MAX,
  };
  if (!narrow_current(&memory)) return result;
  if (total_bytes != NULL) *total_bytes = (unsigned int)memory.total;
  if (free_bytes != NULL) *free_bytes = (unsigned int)memory.free;
  return result;
}

static bool narrow_total(uint64_t *total, CUdevice device) {
  struct memory memory = {.total = *total};
  share_set shares;
  if (!device_shares(device, &shares) || !narrow(&memory, shares)) return false;
  *total = memory.total;
  return true;
}

GUARD_EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  BEGIN_HOOK(cuDeviceTotalMem_v2, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(bytes, device);
  if (!limited || result != CUDA_SUCCESS || bytes == NULL) return result;
  uint64_t total = *bytes;
  if (narrow_total(&total, device)) *bytes = (size_t)total;
  return result;
}

GUARD_EXPORT CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device) {
  BEGIN_HOOK(cuDeviceTotalMem, CUDA_ERROR_NOT_INITIALIZED);
  CUresult result = real(bytes, device);
  if (!limited || result != CUDA_SUCCESS || bytes == NULL) return result;
  uint64_t total = *bytes;
  if (narrow_total(&total, device)) *bytes = (unsigned int)total;
  return result;
}

static bool narrow_nvml(struct memory *memory, nvmlDevice_t device) {
  share_set shares;
  return device_shares_nvml(device, &shares) && narrow(memory, shares);
}

GUARD_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *info) {
  BEGIN_HOOK(nvmlDeviceGetMemoryInfo, NVML_ERROR_UNINITIALIZED);
  nvmlReturn_t result = real(device, info);
  if (!limited || result != NVML_SUCCESS || info == NULL) return result;
  struct memory memory = {.total = info->total, .free = info->free};
  if (!narrow_nvml(&memory, device)) return result;
  info->total = memory.total;
  info->free = memory.free;
  info->used = memory.used;
  return result;
}

GUARD_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *info) {
  BEGIN_HOOK(nvmlDeviceGetMemoryInfo_v2, NVML_ERROR_UNINITIALIZED);
  nvmlReturn_t result = real(device, info);
  if (!limited || result != NVML_SUCCESS || info == NULL) return result;
  struct memory memory = {.total = info->total, .free = info->free};
  if (!narrow_nvml(&memory, device)) return result;
  info->total = memory.total;
  info->free = memory.free;
  info->used = memory.used;
  info->reserved = 0; /* the driver's own memory is no part of a share */
  return result;
}
