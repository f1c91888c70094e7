#include "overflow.h"

#include "admit.h"
#include "driver.h"

/* Only there managed memory may stay with the host while kernels run. */
static bool can_stay_on_host(CUdevice device) {
  cuDeviceGetAttribute_fn *ask = DRIVER(cuDeviceGetAttribute);
  int can = 0;
  return ask != NULL && ask(&can, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, device) == CUDA_SUCCESS && can != 0;
}

static bool keep_on_host(CUdeviceptr pointer, size_t bytes, CUdevice device) {
  cuMemAdvise_fn *advise = DRIVER(cuMemAdvise);
  if (advise == NULL || advise(pointer, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_DEVICE_CPU) != CUDA_SUCCESS)
    return false;
  (void)advise(pointer, bytes, CU_MEM_ADVISE_SET_ACCESSED_BY, device); /* spares page faults; without it they happen */
  return true;
}

static CUresult take(CUdeviceptr *pointer, size_t bytes, const struct device_place *place, int share) {
  __typeof__(&cuMemAllocManaged) allocate = REAL(cuMemAllocManaged);
  __typeof__(&cuMemFree_v2) release = REAL(cuMemFree_v2);
  CUdeviceptr made;
  if (allocate == NULL || release == NULL || allocate(&made, bytes, CU_MEM_ATTACH_GLOBAL) != CUDA_SUCCESS)
    return CUDA_ERROR_OUT_OF_MEMORY;
  ledger_entry entry = {.key = made,
                        .bytes = bytes,
                        .owner = place->owner,
                        .references = 1,
                        .share = (uint16_t)share,
                        .kind = LEDGER_POINTER,
                        .account = ACCOUNT_MANAGED};
  if (!keep_on_host(made, bytes, place->device) || !admit_remember(&entry)) {
    (void)release(made);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *pointer = made;
  return CUDA_SUCCESS;
}

CUresult overflow_allocate(CUdeviceptr *pointer, size_t bytes, CUdevice device) {
  struct device_place place;
  share_set shares;
  if (!device_shares(device, &shares)) return CUDA_ERROR_OUT_OF_MEMORY;
  bool allowed = share_allows_managed(shares) && device_current(&place) && can_stay_on_host(device);
  int share = allowed ? share_reserve_managed(shares, bytes) : -1;
  CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
  if (share >= 0) {
    place.device = device;
    result = take(pointer, bytes, &place, share);
    if (result != CUDA_SUCCESS) share_release_managed((unsigned)share, bytes);
  }
  if (result != CUDA_SUCCESS) share_count_refusal(shares);
  return result;
}
