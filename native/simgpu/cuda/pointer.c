/* cuPointerGetAttribute: what is behind an address. */
#include <string.h>

#include "memory.h"

/* Bytes of an attribute's value, for those that are answered. */
static size_t value_size(CUpointer_attribute attribute) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR: return sizeof(uint64_t);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_MAPPED:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: return sizeof(uint32_t);
    default: return 0;
  }
}

static uint64_t answer(const memory *range, CUpointer_attribute attribute, CUdeviceptr address) {
  const bool on_host = (range->kind & (MEMORY_HOST | MEMORY_REGISTERED)) != 0;
  const bool host_reaches = on_host || range->kind == MEMORY_MANAGED;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: return (uintptr_t)range->context;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: return address;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER: return host_reaches ? address : 0;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID: return range->id;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR: return range->base;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE: return range->size;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE: return (uintptr_t)range->pool;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: return on_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: return range->kind == MEMORY_MANAGED;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: return (uint64_t)range->ordinal;
    case CU_POINTER_ATTRIBUTE_MAPPED: return !range->inaccessible;
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: return CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE;
    default: return 0;
  }
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr ptr) {
  memory range;
  NEED(data != NULL);
  TRY(driver_ready());
  size_t size = value_size(attribute);
  if (size == 0) return CUDA_ERROR_NOT_SUPPORTED;
  NEED(memory_find((uintptr_t)ptr, &range));
  NEED(attribute != CU_POINTER_ATTRIBUTE_HOST_POINTER || answer(&range, attribute, ptr) != 0);
  uint64_t value = answer(&range, attribute, ptr);
  uint32_t narrow = (uint32_t)value;
  memcpy(data, size == sizeof narrow ? (const void *)&narrow : (const void *)&value, size);
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute *attributes, void **data,
                                CUdeviceptr ptr) {
  NEED(numAttributes > 0 && attributes != NULL && data != NULL);
  TRY(driver_ready());
  for (unsigned int i = 0; i < numAttributes; i++) {
    size_t size = value_size(attributes[i]);
    NEED(size != 0 && data[i] != NULL);
    if (cuPointerGetAttribute(data[i], attributes[i], ptr) == CUDA_SUCCESS) continue;
    /* Unknown addresses are no error here: zeros, and -2 for the device. */
    const int no_device = CU_DEVICE_INVALID;
    memset(data[i], 0, size);
    if (attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) memcpy(data[i], &no_device, sizeof no_device);
  }
  return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr ptr) {
  memory range;
  NEED(value != NULL);
  TRY(driver_ready());
  NEED(attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS && memory_find((uintptr_t)ptr, &range));
  return CUDA_SUCCESS;
}
