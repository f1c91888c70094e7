/* A CUDA runtime over the driver API, for the tests: NVIDIA's own accepts no driver but NVIDIA's.
 *
 * It serves programs that load libcudart.so.11.0 or libcudart.so.12: those built by `nvcc -cudart shared`, and cupy.  Each thread
 * uses the primary context of its device.  Runtime and driver agree in the numbers of handles, flags, attributes and of the errors
 * that occur here; what is not defined here is made a function that returns cudaErrorNotSupported (build.py).
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef RUNTIME_VERSION
#define RUNTIME_VERSION 11000
#endif

#define API __attribute__((visibility("default")))
#define MOST_DEVICES 64
#define MOST_FUNCTIONS 4096

typedef int cudaError; /* the driver's numbers */

static __thread cudaError last;
static __thread int device;
static __thread int bound = -1; /* the device whose context is current */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static CUcontext contexts[MOST_DEVICES];

static cudaError note(cudaError error) {
  if (error != 0) last = error;
  return error;
}

/* Makes the context of the thread's device current. */
static cudaError bind(void) {
  if (bound == device) return 0;
  cudaError error = (cudaError)cuInit(0);
  pthread_mutex_lock(&mutex);
  if (error == 0 && contexts[device] == NULL) error = (cudaError)cuDevicePrimaryCtxRetain(&contexts[device], device);
  pthread_mutex_unlock(&mutex);
  if (error == 0) error = (cudaError)cuCtxSetCurrent(contexts[device]);
  if (error == 0) bound = device;
  return error;
}

/* A function of the runtime that is one of the driver's in the current context. */
#define FORWARD(declaration, call)                           \
  API cudaError declaration;                                 \
  API cudaError declaration {                                \
    cudaError unbound = bind();                              \
    return note(unbound != 0 ? unbound : (cudaError)(call)); \
  }

/* One that needs the driver, but no context. */
#define QUESTION(declaration, call)                        \
  API cudaError declaration;                               \
  API cudaError declaration {                              \
    cudaError failed = (cudaError)cuInit(0);               \
    return note(failed != 0 ? failed : (cudaError)(call)); \
  }

/* One that is done here. */
#define HERE(declaration)    \
  API cudaError declaration; \
  API cudaError declaration

/* ---- versions and errors ----------------------------------------------------------------------------------------- */

HERE(cudaDriverGetVersion(int *version)) { return note((cudaError)cuDriverGetVersion(version)); }

HERE(cudaRuntimeGetVersion(int *version)) {
  *version = RUNTIME_VERSION;
  return 0;
}

HERE(cudaGetLastError(void)) {
  cudaError error = last;
  last = 0;
  return error;
}

HERE(cudaPeekAtLastError(void)) { return last; }

API const char *cudaGetErrorName(cudaError error);
API const char *cudaGetErrorName(cudaError error) {
  const char *name = NULL;
  if (error == 2) return "cudaErrorMemoryAllocation";
  return cuGetErrorName((CUresult)error, &name) == CUDA_SUCCESS ? name : "unrecognized error code";
}

API const char *cudaGetErrorString(cudaError error);
API const char *cudaGetErrorString(cudaError error) {
  const char *text = NULL;
  return cuGetErrorString((CUresult)error, &text) == CUDA_SUCCESS ? text : "unrecognized error code";
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

QUESTION(cudaGetDeviceCount(int *count), cuDeviceGetCount(count))
QUESTION(cudaDeviceGetAttribute(int *value, int attribute, int of),
         cuDeviceGetAttribute(value, (CUdevice_attribute)attribute, of))
QUESTION(cudaDeviceGetPCIBusId(char *text, int length, int of), cuDeviceGetPCIBusId(text, length, of))
QUESTION(cudaDeviceGetByPCIBusId(int *found, const char *text), cuDeviceGetByPCIBusId(found, text))
QUESTION(cudaDeviceCanAccessPeer(int *can, int of, int peer), cuDeviceCanAccessPeer(can, of, peer))
FORWARD(cudaDeviceSynchronize(void), cuCtxSynchronize())
FORWARD(cudaDeviceGetLimit(size_t *value, int limit), cuCtxGetLimit(value, (CUlimit)limit))
FORWARD(cudaDeviceSetLimit(int limit, size_t value), cuCtxSetLimit((CUlimit)limit, value))

HERE(cudaSetDevice(int wanted)) {
  int count = 0;
  cudaError error = cudaGetDeviceCount(&count);
  if (error != 0) return error;
  if (wanted < 0 || wanted >= count || wanted >= MOST_DEVICES) return note(CUDA_ERROR_INVALID_DEVICE);
  device = wanted;
  return 0;
}

HERE(cudaGetDevice(int *current)) {
  *current = device;
  return 0;
}

HERE(cudaDeviceReset(void)) {
  cudaError error = bind();
  if (error == 0) error = (cudaError)cuDevicePrimaryCtxReset_v2(device);
  bound = -1;
  return note(error);
}

/* The context of another device. */
static CUcontext context_of(int other) {
  int own = device;
  device = other;
  cudaError error = bind();
  device = own;
  bind();
  return error == 0 ? contexts[other] : NULL;
}

FORWARD(cudaDeviceEnablePeerAccess(int peer, unsigned int flags), cuCtxEnablePeerAccess(context_of(peer), flags))
FORWARD(cudaDeviceDisablePeerAccess(int peer), cuCtxDisablePeerAccess(context_of(peer)))

/* The beginning of cudaDeviceProp, which is the same in CUDA 11 and 12. */
struct properties {
  char name[256];
  CUuuid uuid;
  char luid[8];
  unsigned int luid_mask;
  size_t memory_bytes;
  size_t shared_bytes;
  int registers;
  int warp;
  size_t pitch;
  int threads;
  int block[3];
  int grid[3];
  int clock_khz;
  size_t constant_bytes;
  int major;
  int minor;
  size_t texture_alignment;
  size_t texture_pitch_alignment;
  int overlap;
  int processors;
};

static int attribute(CUdevice_attribute which, int of) {
  int value = 0;
  cuDeviceGetAttribute(&value, which, of);
  return value;
}

static cudaError fill(struct properties *into, int of) {
  memset(into, 0, sizeof *into);
  CUresult result = cuDeviceGetName(into->name, sizeof into->name, of);
  if (result == CUDA_SUCCESS) result = cuDeviceGetUuid_v2(&into->uuid, of);
  if (result == CUDA_SUCCESS) result = cuDeviceTotalMem_v2(&into->memory_bytes, of);
  into->shared_bytes = (size_t)attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, of);
  into->registers = attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, of);
  into->warp = attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE, of);
  into->pitch = (size_t)attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH, of);
  into->threads = attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, of);
  for (int axis = 0; axis < 3; axis++) {
    into->block[axis] = attribute((CUdevice_attribute)(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + axis), of);
    into->grid[axis] = attribute((CUdevice_attribute)(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + axis), of);
  }
  into->clock_khz = attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE, of);
  into->constant_bytes = (size_t)attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, of);
  into->major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, of);
  into->minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, of);
  into->texture_alignment = (size_t)attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, of);
  into->texture_pitch_alignment = (size_t)attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, of);
  into->overlap = attribute(CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, of);
  into->processors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, of);
  return (cudaError)result;
}

QUESTION(cudaGetDeviceProperties(struct properties *into, int of), fill(into, of))
QUESTION(cudaGetDeviceProperties_v2(struct properties *into, int of), fill(into, of))

/* ---- memory ------------------------------------------------------------------------------------------------------ */

#define AT(pointer) ((CUdeviceptr)(uintptr_t)(pointer))

/* Nothing for nothing, where the driver refuses. */
static CUresult allocate(void **pointer, size_t size) {
  *pointer = NULL;
  return size == 0 ? CUDA_SUCCESS : cuMemAlloc_v2((CUdeviceptr *)pointer, size);
}

FORWARD(cudaMalloc(void **pointer, size_t size), allocate(pointer, size))
FORWARD(cudaMallocManaged(void **pointer, size_t size, unsigned int flags),
        cuMemAllocManaged((CUdeviceptr *)pointer, size, flags))
FORWARD(cudaMallocPitch(void **pointer, size_t *pitch, size_t width, size_t height),
        cuMemAllocPitch_v2((CUdeviceptr *)pointer, pitch, width, height, 4))
FORWARD(cudaFree(void *pointer), cuMemFree_v2(AT(pointer)))
FORWARD(cudaMallocAsync(void **pointer, size_t size, CUstream stream),
        cuMemAllocAsync((CUdeviceptr *)pointer, size, stream))
FORWARD(cudaFreeAsync(void *pointer, CUstream stream), cuMemFreeAsync(AT(pointer), stream))
FORWARD(cudaHostAlloc(void **pointer, size_t size, unsigned int flags), cuMemHostAlloc(pointer, size, flags))
FORWARD(cudaMallocHost(void **pointer, size_t size), cuMemAllocHost_v2(pointer, size))
FORWARD(cudaFreeHost(void *pointer), pointer != NULL ? cuMemFreeHost(pointer) : CUDA_SUCCESS)
FORWARD(cudaHostRegister(void *pointer, size_t size, unsigned int flags), cuMemHostRegister_v2(pointer, size, flags))
FORWARD(cudaHostUnregister(void *pointer), cuMemHostUnregister(pointer))
FORWARD(cudaMemGetInfo(size_t *free_bytes, size_t *total), cuMemGetInfo_v2(free_bytes, total))
FORWARD(cudaMemcpy(void *to, const void *from, size_t size, int kind), ((void)kind, cuMemcpy(AT(to), AT(from), size)))
FORWARD(cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, CUstream stream),
        ((void)kind, cuMemcpyAsync(AT(to), AT(from), size, stream)))
FORWARD(cudaMemcpyPeer(void *to, int to_device, const void *from, int from_device, size_t size),
        ((void)to_device, (void)from_device, cuMemcpy(AT(to), AT(from), size)))
FORWARD(cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t size, CUstream stream),
        ((void)to_device, (void)from_device, cuMemcpyAsync(AT(to), AT(from), size, stream)))
FORWARD(cudaMemset(void *to, int value, size_t size), cuMemsetD8_v2(AT(to), (unsigned char)value, size))
FORWARD(cudaMemsetAsync(void *to, int value, size_t size, CUstream stream),
        cuMemsetD8Async(AT(to), (unsigned char)value, size, stream))
FORWARD(cudaIpcGetMemHandle(CUipcMemHandle *handle, void *pointer), cuIpcGetMemHandle(handle, AT(pointer)))
FORWARD(cudaIpcOpenMemHandle(void **pointer, CUipcMemHandle handle, unsigned int flags),
        cuIpcOpenMemHandle_v2((CUdeviceptr *)pointer, handle, flags))
FORWARD(cudaIpcCloseMemHandle(void *pointer), cuIpcCloseMemHandle(AT(pointer)))

static CUresult copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                          CUstream stream) {
  const CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                              .srcDevice = AT(from),
                              .srcPitch = from_pitch,
                              .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                              .dstDevice = AT(to),
                              .dstPitch = to_pitch,
                              .WidthInBytes = width,
                              .Height = height};
  return cuMemcpy2DAsync_v2(&copy, stream);
}

FORWARD(cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                     int kind),
        ((void)kind, copy_rows(to, to_pitch, from, from_pitch, width, height, NULL)))
FORWARD(cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                          int kind, CUstream stream),
        ((void)kind, copy_rows(to, to_pitch, from, from_pitch, width, height, stream)))

/* cudaPointerAttributes since CUDA 11. */
struct pointer_attributes {
  int type; /* 0: unknown to CUDA, 1: host, 2: device, 3: managed */
  int of;
  void *on_device;
  void *on_host;
};

HERE(cudaPointerGetAttributes(struct pointer_attributes *into, const void *pointer)) {
  unsigned int type = 0;
  unsigned int managed = 0;
  cudaError error = bind();
  if (error != 0) return note(error);
  *into = (struct pointer_attributes){.of = -2, .on_host = (void *)(uintptr_t)pointer};
  if (cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, AT(pointer)) != CUDA_SUCCESS) return 0;
  cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, AT(pointer));
  cuPointerGetAttribute(&into->of, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, AT(pointer));
  into->type = managed != 0 ? 3 : (int)type;
  into->on_device = into->on_host;
  if (into->type == 2) into->on_host = NULL;
  return 0;
}

/* ---- streams and events ------------------------------------------------------------------------------------------ */

FORWARD(cudaStreamCreate(CUstream *stream), cuStreamCreate(stream, 0))
FORWARD(cudaStreamCreateWithFlags(CUstream *stream, unsigned int flags), cuStreamCreate(stream, flags))
FORWARD(cudaStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority),
        cuStreamCreateWithPriority(stream, flags, priority))
FORWARD(cudaStreamDestroy(CUstream stream), cuStreamDestroy_v2(stream))
FORWARD(cudaStreamSynchronize(CUstream stream), cuStreamSynchronize(stream))
FORWARD(cudaStreamQuery(CUstream stream), cuStreamQuery(stream))
FORWARD(cudaStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags),
        cuStreamWaitEvent(stream, event, flags))
FORWARD(cudaStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status), cuStreamIsCapturing(stream, status))
FORWARD(cudaStreamAddCallback(CUstream stream, CUstreamCallback callback, void *data, unsigned int flags),
        cuStreamAddCallback(stream, callback, data, flags))
FORWARD(cudaLaunchHostFunc(CUstream stream, CUhostFn function, void *data), cuLaunchHostFunc(stream, function, data))
FORWARD(cudaEventCreate(CUevent *event), cuEventCreate(event, 0))
FORWARD(cudaEventCreateWithFlags(CUevent *event, unsigned int flags), cuEventCreate(event, flags))
FORWARD(cudaEventDestroy(CUevent event), cuEventDestroy_v2(event))
FORWARD(cudaEventRecord(CUevent event, CUstream stream), cuEventRecord(event, stream))
FORWARD(cudaEventSynchronize(CUevent event), cuEventSynchronize(event))
FORWARD(cudaEventQuery(CUevent event), cuEventQuery(event))
FORWARD(cudaEventElapsedTime(float *ms, CUevent from, CUevent to), cuEventElapsedTime_v2(ms, from, to))
QUESTION(cudaProfilerStart(void), CUDA_SUCCESS)
QUESTION(cudaProfilerStop(void), CUDA_SUCCESS)

/* ---- code that nvcc put into the program ------------------------------------------------------------------------- */

typedef struct image {
  const void *code;
  CUmodule modules[MOST_DEVICES]; /* loaded at the first launch */
} image;

typedef struct registered {
  const void *host;
  const char *name;
  image *of;
  CUfunction functions[MOST_DEVICES];
} registered;

typedef struct dimensions {
  unsigned int x, y, z;
} dimensions;

typedef struct configuration {
  dimensions grid, block;
  size_t shared_bytes;
  void *stream;
} configuration;

static registered *functions[MOST_FUNCTIONS];
static size_t function_count;
static __thread configuration pushed;

API void **__cudaRegisterFatBinary(void *code);
API void **__cudaRegisterFatBinary(void *code) {
  image *made = calloc(1, sizeof *made);
  if (made != NULL) made->code = code;
  return (void **)made;
}

API void __cudaRegisterFatBinaryEnd(void **handle);
API void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }

API void __cudaUnregisterFatBinary(void **handle);
API void __cudaUnregisterFatBinary(void **handle) { (void)handle; }

API char __cudaInitModule(void **handle);
API char __cudaInitModule(void **handle) {
  (void)handle;
  return 1;
}

API void __cudaRegisterFunction(void **handle, const char *host, char *name, const char *device_name, int limit,
                                void *thread, void *block, void *block_dim, void *grid_dim, int *warp);
API void __cudaRegisterFunction(void **handle, const char *host, char *name, const char *device_name, int limit,
                                void *thread, void *block, void *block_dim, void *grid_dim, int *warp) {
  (void)name, (void)limit, (void)thread, (void)block, (void)block_dim, (void)grid_dim, (void)warp;
  registered *made = calloc(1, sizeof *made);
  if (made == NULL) return;
  *made = (registered){.host = host, .name = device_name, .of = (image *)handle};
  pthread_mutex_lock(&mutex);
  if (function_count < MOST_FUNCTIONS) functions[function_count++] = made;
  pthread_mutex_unlock(&mutex);
}

API unsigned int __cudaPushCallConfiguration(dimensions grid, dimensions block, size_t shared_bytes, void *stream);
API unsigned int __cudaPushCallConfiguration(dimensions grid, dimensions block, size_t shared_bytes, void *stream) {
  pushed = (configuration){.grid = grid, .block = block, .shared_bytes = shared_bytes, .stream = stream};
  return 0;
}

HERE(__cudaPopCallConfiguration(dimensions *grid, dimensions *block, size_t *shared_bytes, void *stream)) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared_bytes = pushed.shared_bytes;
  memcpy(stream, &pushed.stream, sizeof pushed.stream);
  return 0;
}

static CUresult load(registered *wanted) {
  CUmodule *module = &wanted->of->modules[device];
  if (*module == NULL) {
    CUresult result = cuModuleLoadData(module, wanted->of->code);
    if (result != CUDA_SUCCESS) return result;
  }
  return cuModuleGetFunction(&wanted->functions[device], *module, wanted->name);
}

static CUresult find(const void *host, CUfunction *found) {
  CUresult result = CUDA_ERROR_NOT_FOUND;
  pthread_mutex_lock(&mutex);
  for (size_t i = 0; i < function_count; i++) {
    if (functions[i]->host != host) continue;
    result = functions[i]->functions[device] != NULL ? CUDA_SUCCESS : load(functions[i]);
    *found = functions[i]->functions[device];
    break;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}

HERE(cudaLaunchKernel(const void *host, dimensions grid, dimensions block, void **arguments, size_t shared_bytes,
                      CUstream stream)) {
  CUfunction function;
  cudaError error = bind();
  if (error == 0) error = (cudaError)find(host, &function);
  if (error == 0)
    error = (cudaError)cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                      (unsigned int)shared_bytes, stream, arguments, NULL);
  return note(error);
}
