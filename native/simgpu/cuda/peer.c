/* Peer access: cards of one architecture reach each other's memory; the fastest of them atomically too. */
#include "context.h"
#include "memory.h"

static bool reachable(const gpu *from, const gpu *to) {
  return from->card != to->card && from->facts.architecture == to->facts.architecture;
}

static CUresult two_devices(CUdevice first, CUdevice second, gpu **from, gpu **to) {
  TRY(driver_device(first, from));
  return driver_device(second, to);
}

CUresult cuDeviceCanAccessPeer(int *canAccessPeer, CUdevice dev, CUdevice peerDev) {
  gpu *from;
  gpu *to;
  NEED(canAccessPeer != NULL);
  TRY(two_devices(dev, peerDev, &from, &to));
  *canAccessPeer = reachable(from, to);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attrib, CUdevice srcDevice, CUdevice dstDevice) {
  gpu *from;
  gpu *to;
  NEED(value != NULL);
  TRY(two_devices(srcDevice, dstDevice, &from, &to));
  if (srcDevice == dstDevice) return CUDA_ERROR_INVALID_DEVICE;
  switch (attrib) {
    case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED:
    case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED: *value = reachable(from, to); return CUDA_SUCCESS;
    case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED:
      *value = reachable(from, to) && from->facts.mig_supported;
      return CUDA_SUCCESS;
    case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK: *value = 0; return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuCtxEnablePeerAccess(CUcontext peerContext, unsigned int Flags) {
  CUcontext current;
  NEED(Flags == 0);
  TRY(context_current(&current));
  if (peerContext == NULL || peerContext == current) return CUDA_ERROR_INVALID_CONTEXT;
  TRY(context_or_current(peerContext, &peerContext));
  if (!reachable(&the_driver.devices[current->ordinal], &the_driver.devices[peerContext->ordinal]))
    return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
  const uint32_t peer = UINT32_C(1) << peerContext->ordinal;
  uint32_t before = __atomic_fetch_or(&current->peers, peer, __ATOMIC_RELAXED);
  return (before & peer) != 0 ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_SUCCESS;
}

CUresult cuCtxDisablePeerAccess(CUcontext peerContext) {
  CUcontext current;
  TRY(context_current(&current));
  if (peerContext == NULL) return CUDA_ERROR_INVALID_CONTEXT;
  TRY(context_or_current(peerContext, &peerContext));
  const uint32_t peer = UINT32_C(1) << peerContext->ordinal;
  uint32_t before = __atomic_fetch_and(&current->peers, ~peer, __ATOMIC_RELAXED);
  return (before & peer) != 0 ? CUDA_SUCCESS : CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
}
