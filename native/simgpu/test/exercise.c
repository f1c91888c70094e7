/* Uses the simulated driver as programs do, for the builds with sanitizers and for tests of many processes.
 *
 *   exercise routes           every route to memory and every kind of object, each with its misuse
 *   exercise threads N OPS    N threads allocate, copy and free, OPS times each
 *   exercise churn OPS BYTES  allocates up to BYTES at a time and frees, OPS times; OPS 0: until killed
 *   exercise hold BYTES       allocates, prints `ready`, waits for the end of its standard input
 * Exit status 0 means that every answer was the expected one; 2 that memory was used up in `hold`.
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define GRANULARITY (2 * MIB)

#define EXPECT(call, wanted)                                                                           \
  do {                                                                                                 \
    int got_ = (int)(call);                                                                            \
    if (got_ != (int)(wanted)) {                                                                       \
      fprintf(stderr, "%s:%d: %s: got %d, want %d\n", __FILE__, __LINE__, #call, got_, (int)(wanted)); \
      exit(1);                                                                                         \
    }                                                                                                  \
  } while (0)
#define OK(call) EXPECT(call, CUDA_SUCCESS)
#define CHECK(condition) EXPECT(!(condition), 0)

static CUcontext context;

static void start(void) {
  CUdevice device;
  OK(cuInit(0));
  OK(cuDeviceGet(&device, 0));
  OK(cuDevicePrimaryCtxRetain(&context, device));
  OK(cuCtxSetCurrent(context));
}

static size_t used(void) {
  size_t free_bytes;
  size_t total;
  OK(cuMemGetInfo_v2(&free_bytes, &total));
  return total - free_bytes;
}

static void linear_memory(void) {
  CUdeviceptr p;
  CUdeviceptr q;
  size_t pitch;
  char text[64] = "a text that goes to the card and comes back";
  char back[64] = "";
  size_t before = used();
  EXPECT(cuMemAlloc_v2(&p, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemAlloc_v2(NULL, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemAlloc_v2(&p, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
  OK(cuMemAlloc_v2(&p, 10 * MIB));
  CHECK(used() == before + 10 * MIB);
  OK(cuMemcpyHtoD_v2(p + 100, text, sizeof text));
  OK(cuMemcpyDtoH_v2(back, p + 100, sizeof back));
  CHECK(strcmp(text, back) == 0);
  EXPECT(cuMemcpyHtoD_v2(p + 10 * MIB - 1, text, 2), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemcpyDtoH_v2(back, 4096, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemFree_v2(p + 1), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemsetD32_v2(p, 0x01020304, 1000));
  EXPECT(cuMemsetD32_v2(p + 1, 0, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuMemsetD8_v2(p, 0, SIZE_MAX), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemAllocPitch_v2(&q, &pitch, 1000, 10, 4));
  CHECK(pitch >= 1000 && used() == before + 10 * MIB + pitch * 10);
  OK(cuMemsetD2D8_v2(q, pitch, 7, 1000, 10));
  EXPECT(cuMemsetD2D8_v2(q, pitch, 7, 1000, 11), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemFree_v2(q));
  OK(cuMemFree_v2(p));
  EXPECT(cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE);
  CHECK(used() == before);
}

static void host_and_managed_memory(void) {
  void *host;
  CUdeviceptr managed;
  CUdeviceptr alias;
  static char own[8192];
  unsigned int type;
  size_t before = used();
  OK(cuMemHostAlloc(&host, MIB, CU_MEMHOSTALLOC_DEVICEMAP));
  CHECK(used() == before);
  OK(cuMemHostGetDevicePointer_v2(&alias, host, 0));
  OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, alias));
  CHECK(type == CU_MEMORYTYPE_HOST);
  EXPECT(cuMemFree_v2(alias), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemFreeHost(host));
  OK(cuMemHostRegister_v2(own, sizeof own, 0));
  EXPECT(cuMemHostRegister_v2(own + 10, 10, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  OK(cuMemHostUnregister(own));
  EXPECT(cuMemHostUnregister(own), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  OK(cuMemAllocManaged(&managed, 3 * MIB, CU_MEM_ATTACH_GLOBAL));
  CHECK(used() == before + 3 * MIB);
  memset((void *)(uintptr_t)managed, 1, 3 * MIB);
  OK(cuMemFree_v2(managed));
  CHECK(used() == before);
}

static size_t pool_figure(CUmemoryPool pool, CUmemPool_attribute attribute) {
  cuuint64_t bytes;
  OK(cuMemPoolGetAttribute(pool, attribute, &bytes));
  return bytes;
}

static void pools(void) {
  CUmemoryPool pool;
  CUdeviceptr p;
  CUdeviceptr q;
  cuuint64_t bytes = 4 * MIB;
  size_t before = used();
  CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                               .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
  OK(cuMemPoolCreate(&pool, &properties));
  OK(cuMemAllocFromPoolAsync(&p, 5 * MIB, pool, NULL));
  OK(cuMemAllocFromPoolAsync(&q, 512 * 1024, pool, NULL));
  CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT) == 5 * MIB + 512 * 1024);
  CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) == 6 * MIB && used() == before + 6 * MIB);
  OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &bytes));
  OK(cuMemFreeAsync(p, NULL));
  CHECK(used() == before + 6 * MIB);
  OK(cuStreamSynchronize(NULL));
  CHECK(used() == before + 4 * MIB);
  OK(cuMemPoolTrimTo(pool, 0));
  CHECK(used() == before + 2 * MIB);
  CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH) == 6 * MIB);
  EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &bytes), CUDA_ERROR_INVALID_VALUE);
  bytes = 0;
  OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &bytes));
  CHECK(pool_figure(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) == 512 * 1024);
  EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &bytes), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemPoolDestroy(pool));
  EXPECT(cuMemPoolTrimTo(pool, 0), CUDA_ERROR_INVALID_VALUE);
  CHECK(used() == before + 2 * MIB);
  OK(cuMemFreeAsync(q, NULL));
  CHECK(used() == before);
  OK(cuMemAllocAsync(&p, MIB, CU_STREAM_PER_THREAD));
  OK(cuMemFree_v2(p));
  OK(cuCtxSynchronize());
  CHECK(used() == before);
}

/* Lets a stream go on when its mutex is free. */
static void pass_gate(void *gate) {
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
}

/* What a busy stream frees can be had again in that stream only, until it has come to it. */
static void pools_in_stream_order(void) {
  static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  CUstream busy;
  CUstream other;
  CUmodule module;
  CUfunction kernel;
  CUdeviceptr p;
  unsigned long long ns = 300 * 1000 * 1000;
  void *arguments[] = {&ns};
  size_t before = used();
  OK(cuStreamCreate(&busy, CU_STREAM_NON_BLOCKING));
  OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
  OK(cuModuleLoadData(&module, "simgpu\nkernel simgpu_sleep(u64 ns)\n"));
  OK(cuModuleGetFunction(&kernel, module, "simgpu_sleep"));
  OK(cuMemAllocAsync(&p, 4 * MIB, busy));
  pthread_mutex_lock(&gate);
  /* An idle stream would call the function here and now, for ever. */
  OK(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, busy, arguments, NULL));
  EXPECT(cuStreamQuery(busy), CUDA_ERROR_NOT_READY);
  OK(cuLaunchHostFunc(busy, pass_gate, &gate));
  OK(cuMemFreeAsync(p, busy));
  OK(cuMemAllocAsync(&p, 4 * MIB, busy));
  CHECK(used() == before + 4 * MIB);
  OK(cuMemFreeAsync(p, busy));
  OK(cuMemAllocAsync(&p, 2 * MIB, other));
  CHECK(used() == before + 6 * MIB);
  OK(cuStreamSynchronize(other));
  CHECK(used() == before + 6 * MIB);
  pthread_mutex_unlock(&gate);
  OK(cuStreamSynchronize(busy));
  CHECK(used() == before + 2 * MIB);
  OK(cuMemFreeAsync(p, other));
  OK(cuStreamSynchronize(other));
  CHECK(used() == before);
  OK(cuModuleUnload(module));
  OK(cuStreamDestroy_v2(busy));
  OK(cuStreamDestroy_v2(other));
}

static void virtual_memory(void) {
  CUdeviceptr reserved;
  CUmemGenericAllocationHandle first;
  CUmemGenericAllocationHandle second;
  CUmemGenericAllocationHandle again;
  char text[16] = "across the seam";
  char back[16] = "";
  size_t before = used();
  CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                    .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
  CUmemAccessDesc access = {.location = properties.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  OK(cuMemAddressReserve(&reserved, 4 * GRANULARITY, 0, 0, 0));
  CHECK(reserved % GRANULARITY == 0);
  EXPECT(cuMemCreate(&first, GRANULARITY + 1, &properties, 0), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemCreate(&first, GRANULARITY, &properties, 0));
  OK(cuMemCreate(&second, GRANULARITY, &properties, 0));
  CHECK(used() == before + 2 * GRANULARITY);
  OK(cuMemMap(reserved, GRANULARITY, 0, first, 0));
  EXPECT(cuMemMap(reserved, GRANULARITY, 0, second, 0), CUDA_ERROR_ALREADY_MAPPED);
  EXPECT(cuMemMap(reserved + 4 * GRANULARITY, GRANULARITY, 0, second, 0), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemMap(reserved + GRANULARITY, GRANULARITY, 0, second, 0));
  EXPECT(cuMemcpyHtoD_v2(reserved, text, sizeof text), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemSetAccess(reserved, 2 * GRANULARITY, &access, 1));
  OK(cuMemcpyHtoD_v2(reserved + GRANULARITY - 8, text, sizeof text));
  OK(cuMemcpyDtoH_v2(back, reserved + GRANULARITY - 8, sizeof back));
  CHECK(strcmp(text, back) == 0);
  OK(cuMemRelease(first));
  OK(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)reserved));
  OK(cuMemUnmap(reserved, 2 * GRANULARITY));
  EXPECT(cuMemUnmap(reserved, 2 * GRANULARITY), CUDA_ERROR_INVALID_VALUE);
  CHECK(used() == before + 2 * GRANULARITY);
  OK(cuMemRelease(again));
  OK(cuMemRelease(second));
  EXPECT(cuMemRelease(second), CUDA_ERROR_INVALID_VALUE);
  CHECK(used() == before);
  OK(cuMemAddressFree(reserved, 4 * GRANULARITY));
  EXPECT(cuMemAddressFree(reserved, 4 * GRANULARITY), CUDA_ERROR_INVALID_VALUE);
}

static void arrays(void) {
  CUarray array;
  CUarray level;
  CUmipmappedArray mipmap;
  float from[8][16];
  float into[8][16];
  size_t before = used();
  CUDA_ARRAY_DESCRIPTOR shape = {.Width = 16, .Height = 8, .Format = CU_AD_FORMAT_FLOAT, .NumChannels = 1};
  CUDA_ARRAY3D_DESCRIPTOR deep = {.Width = 64, .Height = 64, .Format = CU_AD_FORMAT_UNSIGNED_INT8, .NumChannels = 4};
  for (int i = 0; i < 8 * 16; i++) from[i / 16][i % 16] = (float)i;
  OK(cuArrayCreate_v2(&array, &shape));
  CHECK(used() == before + sizeof from);
  CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                        .srcHost = from,
                        .srcPitch = sizeof *from,
                        .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                        .dstArray = array,
                        .WidthInBytes = sizeof *from,
                        .Height = 8};
  OK(cuMemcpy2D_v2(&copy));
  copy.Height = 9;
  EXPECT(cuMemcpy2D_v2(&copy), CUDA_ERROR_INVALID_VALUE);
  CUDA_MEMCPY2D back = {.srcMemoryType = CU_MEMORYTYPE_ARRAY,
                        .srcArray = array,
                        .srcY = 2,
                        .dstMemoryType = CU_MEMORYTYPE_HOST,
                        .dstHost = into,
                        .dstPitch = sizeof *into,
                        .WidthInBytes = sizeof *into,
                        .Height = 6};
  OK(cuMemcpy2D_v2(&back));
  CHECK(memcmp(into, from[2], 6 * sizeof *into) == 0);
  OK(cuMemcpyAtoH_v2(into, array, 4, 8));
  CHECK(into[0][0] == 1.0f && into[0][1] == 2.0f);
  OK(cuArrayDestroy(array));
  EXPECT(cuArrayDestroy(array), CUDA_ERROR_INVALID_HANDLE);
  OK(cuMipmappedArrayCreate(&mipmap, &deep, 3));
  OK(cuMipmappedArrayGetLevel(&level, mipmap, 2));
  EXPECT(cuArrayDestroy(level), CUDA_ERROR_INVALID_HANDLE);
  CHECK(used() == before + 4 * (64 * 64 + 32 * 32 + 16 * 16));
  OK(cuMipmappedArrayDestroy(mipmap));
  CHECK(used() == before);
}

static void noop(void *count) { ++*(int *)count; }

static void streams_and_code(void) {
  static const char PTX[] =
      ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry first(.param .u64 p) { ret; }\n.entry second() { "
      "ret; }\n";
  CUstream stream;
  CUevent begin;
  CUevent end;
  CUmodule module;
  CUfunction function;
  CUlibrary library;
  CUkernel kernel;
  unsigned int count;
  int calls = 0;
  float ms;
  OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  OK(cuEventCreate(&begin, 0));
  OK(cuEventCreate(&end, 0));
  EXPECT(cuEventElapsedTime_v2(&ms, begin, end), CUDA_ERROR_INVALID_HANDLE);
  EXPECT(cuModuleLoadData(&module, "not an image"), CUDA_ERROR_INVALID_IMAGE);
  OK(cuModuleLoadData(&module, PTX));
  OK(cuModuleGetFunctionCount(&count, module));
  CHECK(count == 2);
  OK(cuModuleGetFunction(&function, module, "second"));
  EXPECT(cuModuleGetFunction(&function, module, "third"), CUDA_ERROR_NOT_FOUND);
  OK(cuModuleGetFunction(&function, module, "first"));
  OK(cuEventRecord(begin, stream));
  OK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, NULL, NULL));
  EXPECT(cuLaunchKernel(function, 0, 1, 1, 32, 1, 1, 0, stream, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
  EXPECT(cuLaunchKernel(function, 1, 1, 1, 1024, 2, 1, 0, stream, NULL, NULL), CUDA_ERROR_INVALID_VALUE);
  OK(cuLaunchHostFunc(stream, noop, &calls));
  OK(cuEventRecord(end, stream));
  OK(cuEventElapsedTime_v2(&ms, begin, end));
  CHECK(ms >= 0 && calls == 1);
  OK(cuLibraryLoadData(&library, PTX, NULL, NULL, 0, NULL, NULL, 0));
  OK(cuLibraryGetKernel(&kernel, library, "first"));
  OK(cuKernelGetFunction(&function, kernel));
  OK(cuLaunchKernel((CUfunction)kernel, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL));
  OK(cuLibraryUnload(library));
  EXPECT(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), CUDA_ERROR_INVALID_HANDLE);
  OK(cuModuleUnload(module));
  OK(cuStreamDestroy_v2(stream));
  EXPECT(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
  OK(cuEventDestroy_v2(begin));
  OK(cuEventDestroy_v2(end));
}

static void variables(void) {
  static const char PTX[] =
      ".version 8.0\n.target sm_80\n.address_size 64\n.visible .global .align 4 .u32 numbers[3] = {1, 0x02, 3};\n"
      ".extern .global .u32 elsewhere;\n.global .align 8 .f64 one = 0d3FF0000000000000;\n.const .align 1 .b8 "
      "table[2][64];\n"
      ".visible .entry kernel() { .reg .u32 %r1; ld.global.u32 %r1, [numbers]; ret; }\n";
  CUmodule module;
  CUlibrary library;
  CUdeviceptr p;
  CUdeviceptr again;
  size_t size;
  unsigned int numbers[3];
  double one;
  size_t before = used();
  OK(cuModuleLoadData(&module, PTX));
  OK(cuModuleGetGlobal_v2(&p, &size, module, "numbers"));
  OK(cuMemcpyDtoH_v2(numbers, p, sizeof numbers));
  CHECK(size == 12 && numbers[0] == 1 && numbers[1] == 2 && numbers[2] == 3);
  numbers[1] = 7;
  OK(cuMemcpyHtoD_v2(p, numbers, sizeof numbers));
  OK(cuModuleGetGlobal_v2(&again, NULL, module, "numbers"));
  CHECK(again == p);
  EXPECT(cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE);
  OK(cuModuleGetGlobal_v2(&p, &size, module, "one"));
  OK(cuMemcpyDtoH_v2(&one, p, sizeof one));
  CHECK(one == 1.0);
  OK(cuModuleGetGlobal_v2(NULL, &size, module, "table"));
  CHECK(size == 128);
  EXPECT(cuModuleGetGlobal_v2(&p, &size, module, "elsewhere"), CUDA_ERROR_NOT_FOUND);
  EXPECT(cuModuleGetGlobal_v2(&p, &size, module, "kernel"), CUDA_ERROR_NOT_FOUND);
  OK(cuModuleUnload(module));
  EXPECT(cuMemcpyDtoH_v2(&one, p, sizeof one), CUDA_ERROR_INVALID_VALUE);
  OK(cuLibraryLoadData(&library, "simgpu\nkernel k()\nglobal g 1048576\n", NULL, NULL, 0, NULL, NULL, 0));
  OK(cuLibraryGetGlobal(&p, &size, library, "g"));
  CHECK(size == MIB);
  OK(cuMemsetD8_v2(p, 1, MIB));
  OK(cuLibraryUnload(library));
  CHECK(used() == before);
}

static void limits(void) {
  size_t value;
  OK(cuCtxGetLimit(&value, CU_LIMIT_STACK_SIZE));
  CHECK(value == 1024);
  OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 64 * MIB));
  OK(cuCtxGetLimit(&value, CU_LIMIT_MALLOC_HEAP_SIZE));
  CHECK(value == 64 * MIB);
  EXPECT(cuCtxSetLimit(CU_LIMIT_MAX, 1), CUDA_ERROR_UNSUPPORTED_LIMIT);
  OK(cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, 8 * MIB));
}

static void contexts(void) {
  CUcontext own;
  CUcontext popped;
  CUdeviceptr p;
  size_t before = used();
  OK(cuCtxCreate_v2(&own, 0, 0));
  OK(cuMemAlloc_v2(&p, 4 * MIB));
  CHECK(used() == before + 4 * MIB);
  OK(cuCtxDestroy_v2(own));
  OK(cuCtxGetCurrent(&popped));
  CHECK(popped == context && used() == before);
  EXPECT(cuCtxDestroy_v2(own), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT(cuCtxPushCurrent_v2(own), CUDA_ERROR_INVALID_CONTEXT);
  OK(cuMemAlloc_v2(&p, MIB));
  OK(cuDevicePrimaryCtxReset_v2(0));
  EXPECT(cuCtxSynchronize(), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  OK(cuCtxSetCurrent(context));
  OK(cuCtxSynchronize());
  CHECK(used() == before);
}

/* Needs two cards of one architecture. */
static void peers(void) {
  CUcontext other;
  CUdeviceptr here;
  CUdeviceptr there;
  int count;
  int value;
  char back[8] = "";
  OK(cuDeviceGetCount(&count));
  if (count < 2) return;
  OK(cuDeviceCanAccessPeer(&value, 0, 0));
  CHECK(value == 0);
  OK(cuDeviceCanAccessPeer(&value, 0, 1));
  CHECK(value == 1);
  OK(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 0, 1));
  CHECK(value == 1);
  EXPECT(cuDeviceGetP2PAttribute(&value, CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED, 1, 1), CUDA_ERROR_INVALID_DEVICE);
  OK(cuMemAlloc_v2(&here, MIB));
  OK(cuMemcpyHtoD_v2(here, "across", 7));
  OK(cuCtxCreate_v2(&other, 0, 1));
  OK(cuMemAlloc_v2(&there, MIB));
  OK(cuMemcpyPeer(there, other, here, context, 7));
  OK(cuMemcpyDtoH_v2(back, there, 7));
  CHECK(strcmp(back, "across") == 0);
  EXPECT(cuCtxEnablePeerAccess(other, 0), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT(cuCtxDisablePeerAccess(context), CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
  OK(cuCtxEnablePeerAccess(context, 0));
  EXPECT(cuCtxEnablePeerAccess(context, 0), CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
  OK(cuCtxDisablePeerAccess(context));
  OK(cuCtxDestroy_v2(other));
  OK(cuMemFree_v2(here));
}

static void entry_points(void) {
  void *function;
  const char *name;
  CUdriverProcAddressQueryResult status;
  OK(cuGetProcAddress_v2("cuMemAlloc", &function, 12000, 0, &status));
  CHECK((uintptr_t)function == (uintptr_t)cuMemAlloc_v2 && status == CU_GET_PROC_ADDRESS_SUCCESS);
  OK(cuGetProcAddress_v2("cuMemcpyHtoD", &function, 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, NULL));
  CHECK((uintptr_t)function == (uintptr_t)cuMemcpyHtoD_v2_ptds);
  OK(cuGetProcAddress("cuGetProcAddress", &function, 11040, 0));
  CHECK((uintptr_t)function == (uintptr_t)cuGetProcAddress);
  EXPECT(cuGetProcAddress_v2("cuMemAllocAsync", &function, 11000, 0, &status), CUDA_ERROR_NOT_FOUND);
  CHECK(function == NULL && status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  EXPECT(cuGetProcAddress_v2("cuNoSuchThing", &function, 12000, 0, &status), CUDA_ERROR_NOT_FOUND);
  CHECK(status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  OK(cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &name));
  CHECK(strcmp(name, "out of memory") == 0);
  EXPECT(cuGetErrorName((CUresult)12345, &name), CUDA_ERROR_INVALID_VALUE);
}

static void nvml(void) {
  nvmlDevice_t device;
  nvmlMemory_t memory;
  nvmlMemory_v2_t memory2 = {.version = nvmlMemory_v2};
  nvmlProcessInfo_t processes[8];
  nvmlEventSet_t set;
  nvmlEventData_t event;
  unsigned int count = 0;
  CUdeviceptr p;
  EXPECT(nvmlDeviceGetCount_v2(&count), NVML_ERROR_UNINITIALIZED);
  EXPECT(nvmlInit_v2(), NVML_SUCCESS);
  EXPECT(nvmlDeviceGetHandleByIndex_v2(0, &device), NVML_SUCCESS);
  EXPECT(nvmlDeviceGetHandleByIndex_v2(99, &device), NVML_ERROR_INVALID_ARGUMENT);
  EXPECT(nvmlDeviceGetHandleByIndex_v2(0, &device), NVML_SUCCESS);
  OK(cuMemAlloc_v2(&p, 2 * MIB));
  EXPECT(nvmlDeviceGetMemoryInfo(device, &memory), NVML_SUCCESS);
  EXPECT(nvmlDeviceGetMemoryInfo_v2(device, &memory2), NVML_SUCCESS);
  CHECK(memory.used == used() && memory2.used == used());
  EXPECT(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, NULL), NVML_ERROR_INSUFFICIENT_SIZE);
  count = 8;
  EXPECT(nvmlDeviceGetComputeRunningProcesses_v3(device, &count, processes), NVML_SUCCESS);
  CHECK(count == 1 && processes[0].pid == (unsigned int)getpid() && processes[0].usedGpuMemory >= 2 * MIB);
  EXPECT(nvmlEventSetCreate(&set), NVML_SUCCESS);
  EXPECT(nvmlDeviceRegisterEvents(device, nvmlEventTypeXidCriticalError, set), NVML_SUCCESS);
  EXPECT(nvmlEventSetWait_v2(set, &event, 1), NVML_ERROR_TIMEOUT);
  EXPECT(nvmlEventSetFree(set), NVML_SUCCESS);
  EXPECT(nvmlShutdown(), NVML_SUCCESS);
  EXPECT(nvmlShutdown(), NVML_ERROR_UNINITIALIZED);
  OK(cuMemFree_v2(p));
}

static int routes(void) {
  start();
  linear_memory();
  host_and_managed_memory();
  pools();
  pools_in_stream_order();
  virtual_memory();
  arrays();
  streams_and_code();
  variables();
  limits();
  contexts();
  peers();
  entry_points();
  nvml();
  CHECK(used() == 0);
  OK(cuDevicePrimaryCtxRelease_v2(0));
  EXPECT(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
  return 0;
}

static long operations;

static void *work(void *seed) {
  unsigned int state = (unsigned int)(uintptr_t)seed;
  char byte = (char)state;
  OK(cuCtxSetCurrent(context));
  for (long i = 0; i < operations; i++) {
    CUdeviceptr p;
    char back = 0;
    OK(cuMemAlloc_v2(&p, 1 + (size_t)rand_r(&state) % MIB));
    OK(cuMemcpyHtoD_v2(p, &byte, 1));
    if (i % 16 == 0) CHECK(used() > 0);
    OK(cuMemcpyDtoH_v2(&back, p, 1));
    CHECK(back == byte);
    OK(cuMemFree_v2(p));
  }
  return NULL;
}

static int threads(long number) {
  pthread_t thread[64];
  if (number < 1 || number > 64) return 1;
  start();
  for (long i = 0; i < number; i++) EXPECT(pthread_create(&thread[i], NULL, work, (void *)(i + 1)), 0);
  for (long i = 0; i < number; i++) EXPECT(pthread_join(thread[i], NULL), 0);
  CHECK(used() == 0);
  return 0;
}

static int churn(size_t most) {
  unsigned int state = (unsigned int)getpid();
  CUdeviceptr held[8] = {0};
  start();
  for (long i = 0; operations == 0 || i < operations; i++) {
    CUdeviceptr *slot = &held[rand_r(&state) % 8];
    OK(cuMemFree_v2(*slot));
    *slot = 0;
    CUresult result = cuMemAlloc_v2(slot, 1 + (size_t)rand_r(&state) * 4096u % most);
    CHECK(result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY);
  }
  return 0;
}

static int hold(size_t size) {
  CUdeviceptr p;
  char byte;
  start();
  CUresult result = cuMemAlloc_v2(&p, size);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) return 2;
  OK(result);
  puts("ready");
  fflush(stdout);
  return read(STDIN_FILENO, &byte, 1) < 0;
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "routes") == 0) return routes();
  if (argc == 3 && strcmp(argv[1], "hold") == 0) return hold(strtoull(argv[2], NULL, 10));
  if (argc != 4) return 64;
  operations = atol(strcmp(argv[1], "threads") == 0 ? argv[3] : argv[2]);
  if (strcmp(argv[1], "threads") == 0) return threads(atol(argv[2]));
  if (strcmp(argv[1], "churn") == 0) return churn(strtoull(argv[3], NULL, 10));
  return 64;
}
