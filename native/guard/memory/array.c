/* Arrays and mipmapped arrays.
 *
 * Only the driver knows their layout; charged is what their elements need.  Sparse and deferred arrays have no memory of their own. */
#include "admit.h"
#include "driver.h"
#include "flight.h"
#include "gate.h"

struct shape {
  uint64_t width, height, depth; /* 0 in a dimension that the array does not have */
  CUarray_format format;
  unsigned int channels, flags, levels;
};

static uint64_t element_bytes(const struct shape *shape) {
  uint64_t channels = shape->channels != 0 ? shape->channels : 1;
  switch (shape->format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8: return channels;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF: return channels * 2;
    default: /* 32 bits a channel; packed and compressed formats need no more */ return channels * 4;
  }
}

static uint64_t at_level(uint64_t size, unsigned int level) {
  uint64_t halved = level < 64 ? size >> level : 0;
  return halved > 0 ? halved : 1;
}

static uint64_t multiply(uint64_t a, uint64_t b) {
  uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t shape_bytes(const struct shape *shape) {
  uint64_t total = 0;
  if ((shape->flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)) != 0) return 0;
  for (unsigned int level = 0; level < shape->levels && level < 64; level++) {
    uint64_t plane = multiply(at_level(shape->width, level), at_level(shape->height, level));
    uint64_t bytes = multiply(multiply(plane, at_level(shape->depth, level)), element_bytes(shape));
    if (__builtin_add_overflow(total, bytes, &total)) return UINT64_MAX;
  }
  return total;
}

static void destroy(uint64_t array) {
  __typeof__(&cuArrayDestroy) real = REAL(cuArrayDestroy);
  if (real != NULL) (void)real((CUarray)(uintptr_t)array);
}

static void destroy_mipmapped(uint64_t array) {
  __typeof__(&cuMipmappedArrayDestroy) real = REAL(cuMipmappedArrayDestroy);
  if (real != NULL) (void)real((CUmipmappedArray)(uintptr_t)array);
}

typedef CUresult create_fn(CUarray *array, const void *descriptor);

/* The four ways to create an array differ in their descriptors only. */
static CUresult create(guard_function *function, CUarray *array, const void *descriptor, struct shape shape) {
  create_fn *real = (create_fn *)function;
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  GATE(limited);
  FLIGHT;
  struct device_place place;
  if (!limited || array == NULL || descriptor == NULL || !device_current(&place)) return real(array, descriptor);
  struct admission admission;
  CUresult result = admit(&admission, &place, shape_bytes(&shape));
  if (result != CUDA_SUCCESS) return result;
  result = real(array, descriptor);
  return admit_settle(&admission, result, LEDGER_ARRAY, (uintptr_t)*array, destroy);
}

#define SHAPE_2D(d) \
  ((d) == NULL ? (struct shape){0} : (struct shape){(d)->Width, (d)->Height, 0, (d)->Format, (d)->NumChannels, 0, 1})
#define SHAPE_3D(d, levels) \
  ((d) == NULL              \
       ? (struct shape){0}  \
       : (struct shape){(d)->Width, (d)->Height, (d)->Depth, (d)->Format, (d)->NumChannels, (d)->Flags, (levels)})

GUARD_EXPORT CUresult cuArrayCreate(CUarray *array, const CUDA_ARRAY_DESCRIPTOR_v1 *descriptor) {
  return create(driver_function(HOOK_cuArrayCreate), array, descriptor, SHAPE_2D(descriptor));
}

GUARD_EXPORT CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *descriptor) {
  return create(driver_function(HOOK_cuArrayCreate_v2), array, descriptor, SHAPE_2D(descriptor));
}

GUARD_EXPORT CUresult cuArray3DCreate(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR_v1 *descriptor) {
  return create(driver_function(HOOK_cuArray3DCreate), array, descriptor, SHAPE_3D(descriptor, 1));
}

GUARD_EXPORT CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
  return create(driver_function(HOOK_cuArray3DCreate_v2), array, descriptor, SHAPE_3D(descriptor, 1));
}

GUARD_EXPORT CUresult cuArrayDestroy(CUarray array) {
  BEGIN_HOOK(cuArrayDestroy, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(array);
  struct refund refund = refund_begin(LEDGER_ARRAY, (uintptr_t)array);
  return refund_end(&refund, real(array));
}

GUARD_EXPORT CUresult cuMipmappedArrayCreate(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
                                             unsigned int levels) {
  BEGIN_HOOK(cuMipmappedArrayCreate, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  struct device_place place;
  if (!limited || array == NULL || descriptor == NULL || !device_current(&place))
    return real(array, descriptor, levels);
  struct admission admission;
  struct shape shape = SHAPE_3D(descriptor, levels);
  CUresult result = admit(&admission, &place, shape_bytes(&shape));
  if (result != CUDA_SUCCESS) return result;
  result = real(array, descriptor, levels);
  return admit_settle(&admission, result, LEDGER_ARRAY, (uintptr_t)*array, destroy_mipmapped);
}

GUARD_EXPORT CUresult cuMipmappedArrayDestroy(CUmipmappedArray array) {
  BEGIN_HOOK(cuMipmappedArrayDestroy, CUDA_ERROR_NOT_INITIALIZED);
  FLIGHT;
  if (!limited) return real(array);
  struct refund refund = refund_begin(LEDGER_ARRAY, (uintptr_t)array);
  return refund_end(&refund, real(array));
}
