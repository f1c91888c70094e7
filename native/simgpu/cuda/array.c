#include "array.h"

#include "memory.h"

#define MOST_LEVELS 32

struct CUmipmappedArray_st {
  object object;
  unsigned int levels;
  struct CUarray_st *level[MOST_LEVELS];
};

static size_t element_bytes(CUarray_format format) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8: return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF: return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT: return 4;
    default: return 0;
  }
}

static bool at_most(size_t value, size_t most) { return value <= most; }

/* Works out the sizes; INVALID_VALUE for shapes that no card has. */
static CUresult shape(CUarray array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, size_t *size) {
  const size_t element = element_bytes(descriptor->Format);
  const unsigned int channels = descriptor->NumChannels;
  NEED(element > 0 && (channels == 1 || channels == 2 || channels == 4));
  NEED(descriptor->Width > 0 && at_most(descriptor->Width, 131072) && at_most(descriptor->Height, 131072) &&
       at_most(descriptor->Depth, 16384));
  array->descriptor = *descriptor;
  array->row_bytes = descriptor->Width * element * channels;
  array->rows = descriptor->Height > 0 ? descriptor->Height : 1;
  array->slices = descriptor->Depth > 0 ? descriptor->Depth : 1;
  *size = array->row_bytes * array->rows * array->slices;
  return CUDA_SUCCESS;
}

CUresult array_check(CUarray array) {
  memory range;
  TRY(driver_ready());
  if (!object_is(array, OBJECT_ARRAY)) return CUDA_ERROR_INVALID_HANDLE;
  NEED(memory_find(array->base, &range) && range.kind == MEMORY_ARRAY);
  return CUDA_SUCCESS;
}

static CUresult make(const CUDA_ARRAY3D_DESCRIPTOR *descriptor, CUarray *made) {
  CUcontext current;
  size_t size;
  TRY(context_current(&current));
  CUarray array = object_new(OBJECT_ARRAY, sizeof *array);
  if (array == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = shape(array, descriptor, &size);
  if (result == CUDA_SUCCESS) {
    memory wanted = {.size = size, .kind = MEMORY_ARRAY, .context = current, .ordinal = current->ordinal};
    result = memory_new(&wanted, &array->base);
  }
  if (result == CUDA_SUCCESS)
    *made = array;
  else
    object_delete(array);
  return result;
}

static CUresult destroy(CUarray array) {
  uintptr_t base = array->base;
  object_delete(array);
  return memory_free(base, MEMORY_ARRAY);
}

CUresult cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray) {
  NEED(pHandle != NULL && pAllocateArray != NULL);
  return make(pAllocateArray, pHandle);
}

CUresult cuArrayCreate_v2(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *pAllocateArray) {
  NEED(pHandle != NULL && pAllocateArray != NULL);
  const CUDA_ARRAY3D_DESCRIPTOR descriptor = {.Width = pAllocateArray->Width,
                                              .Height = pAllocateArray->Height,
                                              .Format = pAllocateArray->Format,
                                              .NumChannels = pAllocateArray->NumChannels};
  return make(&descriptor, pHandle);
}

CUresult cuArrayDestroy(CUarray hArray) {
  TRY(array_check(hArray));
  if (hArray->parent != NULL) return CUDA_ERROR_INVALID_HANDLE;
  return destroy(hArray);
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *pArrayDescriptor, CUarray hArray) {
  NEED(pArrayDescriptor != NULL);
  TRY(array_check(hArray));
  *pArrayDescriptor = hArray->descriptor;
  return CUDA_SUCCESS;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *pArrayDescriptor, CUarray hArray) {
  NEED(pArrayDescriptor != NULL);
  TRY(array_check(hArray));
  *pArrayDescriptor = (CUDA_ARRAY_DESCRIPTOR){.Width = hArray->descriptor.Width,
                                              .Height = hArray->descriptor.Height,
                                              .Format = hArray->descriptor.Format,
                                              .NumChannels = hArray->descriptor.NumChannels};
  return CUDA_SUCCESS;
}

/* ---- mipmaps: one array for each level --------------------------------------------------------------------------- */

static size_t halved(size_t value, unsigned int times) {
  if (value == 0) return 0;
  value >>= times;
  return value > 0 ? value : 1;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray) {
  TRY(driver_ready());
  if (!object_is(hMipmappedArray, OBJECT_MIPMAP)) return CUDA_ERROR_INVALID_HANDLE;
  for (unsigned int i = 0; i < hMipmappedArray->levels; i++) destroy(hMipmappedArray->level[i]);
  object_delete(hMipmappedArray);
  return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pMipmappedArrayDesc,
                                unsigned int numMipmapLevels) {
  NEED(pHandle != NULL && pMipmappedArrayDesc != NULL && numMipmapLevels > 0 && numMipmapLevels <= MOST_LEVELS);
  TRY(driver_ready());
  CUmipmappedArray made = object_new(OBJECT_MIPMAP, sizeof *made);
  if (made == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult result = CUDA_SUCCESS;
  for (unsigned int i = 0; result == CUDA_SUCCESS && i < numMipmapLevels; i++) {
    CUDA_ARRAY3D_DESCRIPTOR descriptor = *pMipmappedArrayDesc;
    descriptor.Width = halved(descriptor.Width, i);
    descriptor.Height = halved(descriptor.Height, i);
    if ((descriptor.Flags & CUDA_ARRAY3D_LAYERED) == 0) descriptor.Depth = halved(descriptor.Depth, i);
    result = make(&descriptor, &made->level[i]);
    if (result != CUDA_SUCCESS) break;
    made->level[i]->parent = made;
    made->levels = i + 1;
  }
  if (result == CUDA_SUCCESS)
    *pHandle = made;
  else
    cuMipmappedArrayDestroy(made);
  return result;
}

CUresult cuMipmappedArrayGetLevel(CUarray *pLevelArray, CUmipmappedArray hMipmappedArray, unsigned int level) {
  NEED(pLevelArray != NULL);
  TRY(driver_ready());
  if (!object_is(hMipmappedArray, OBJECT_MIPMAP)) return CUDA_ERROR_INVALID_HANDLE;
  NEED(level < hMipmappedArray->levels);
  *pLevelArray = hMipmappedArray->level[level];
  return CUDA_SUCCESS;
}
