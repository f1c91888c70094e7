#include "device.h"

#include <stdatomic.h>
#include <string.h>

#include "driver.h"

enum { CACHED_DEVICES = 64 };

static _Atomic share_set cached_shares[CACHED_DEVICES];
static atomic_bool is_cached[CACHED_DEVICES];

void device_reset(void) {
  for (int i = 0; i < CACHED_DEVICES; i++) atomic_store_explicit(&is_cached[i], false, memory_order_relaxed);
}

bool device_current(struct device_place *out) {
  cuCtxGetCurrent_fn *current = DRIVER(cuCtxGetCurrent);
  cuCtxGetDevice_fn *device = DRIVER(cuCtxGetDevice);
  CUcontext context = NULL;
  *out = (struct device_place){.device = -1, .owner = 0};
  if (current == NULL || device == NULL) return false;
  if (current(&context) != CUDA_SUCCESS || context == NULL || device(&out->device) != CUDA_SUCCESS) return false;
  out->owner = (uintptr_t)context;
  return true;
}

/* The device of a context that is not the current one: only the current context can be asked. */
bool device_of_context(CUcontext context, CUdevice *out) {
  cuCtxPushCurrent_v2_fn *push = DRIVER(cuCtxPushCurrent_v2);
  cuCtxPopCurrent_v2_fn *pop = DRIVER(cuCtxPopCurrent_v2);
  cuCtxGetDevice_fn *device = DRIVER(cuCtxGetDevice);
  if (push == NULL || pop == NULL || device == NULL || push(context) != CUDA_SUCCESS) return false;
  bool known = device(out) == CUDA_SUCCESS;
  CUcontext popped;
  (void)pop(&popped);
  return known;
}

bool device_of_stream(CUstream stream, struct device_place *out) {
  bool known = device_current(out);
  if ((uintptr_t)stream > (uintptr_t)CU_STREAM_PER_THREAD) {
    cuStreamGetCtx_fn *context_of = DRIVER(cuStreamGetCtx);
    CUcontext context = NULL;
    if (context_of != NULL && context_of(stream, &context) == CUDA_SUCCESS && context != NULL &&
        (!known || (uintptr_t)context != out->owner)) {
      known = device_of_context(context, &out->device);
    }
  }
  return known;
}

static void write_uuid(const CUuuid *uuid, char text[SHARE_UUID_TEXT]) {
  static const char digits[] = "0123456789abcdef";
  char *at = text;
  memcpy(at, "GPU-", 4);
  at += 4;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
    unsigned byte = (unsigned char)uuid->bytes[i];
    *at++ = digits[byte >> 4];
    *at++ = digits[byte & 15u];
  }
  *at = '\0';
}

bool device_uuid(CUdevice device, char text[SHARE_UUID_TEXT]) {
  cuDeviceGetUuid_fn *uuid_of =
      (cuDeviceGetUuid_fn *)DRIVER(cuDeviceGetUuid_v2); /* tells MIG instances apart; CUDA 11.4 */
  if (uuid_of == NULL) uuid_of = DRIVER(cuDeviceGetUuid);
  CUuuid uuid;
  if (uuid_of == NULL || uuid_of(&uuid, device) != CUDA_SUCCESS) return false;
  write_uuid(&uuid, text);
  return true;
}

bool device_shares(CUdevice device, share_set *out) {
  bool cacheable = device >= 0 && device < CACHED_DEVICES;
  if (cacheable && atomic_load_explicit(&is_cached[device], memory_order_acquire)) {
    *out = atomic_load_explicit(&cached_shares[device], memory_order_relaxed);
    return true;
  }
  char text[SHARE_UUID_TEXT];
  if (!device_uuid(device, text)) return false;
  *out = share_of_uuid(text);
  if (cacheable && !share_is_any_broken()) {
    atomic_store_explicit(&cached_shares[device], *out, memory_order_relaxed);
    atomic_store_explicit(&is_cached[device], true, memory_order_release);
  }
  return true;
}

bool device_shares_nvml(nvmlDevice_t device, share_set *out) {
  nvmlDeviceGetUUID_fn *uuid_of = DRIVER(nvmlDeviceGetUUID);
  char text[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
  if (uuid_of == NULL || uuid_of(device, text, sizeof text) != NVML_SUCCESS) return false;
  *out = share_of_uuid(text);
  return true;
}
