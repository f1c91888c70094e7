/* What nvcc makes of a program that launches one kernel, by hand: registration, configuration and launch through the runtime.
 * Exit status 0 means that every answer was the expected one. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

typedef struct dimensions {
  unsigned int x, y, z;
} dimensions;

int cudaDriverGetVersion(int *version);
int cudaRuntimeGetVersion(int *version);
int cudaGetDeviceCount(int *count);
int cudaSetDevice(int device);
int cudaMalloc(void **pointer, size_t size);
int cudaFree(void *pointer);
int cudaMemcpy(void *to, const void *from, size_t size, int kind);
int cudaMemGetInfo(size_t *free_bytes, size_t *total);
int cudaDeviceSynchronize(void);
int cudaGetLastError(void);
const char *cudaGetErrorString(int error);
int cudaLaunchKernel(const void *host, dimensions grid, dimensions block, void **arguments, size_t shared,
                     void *stream);
void **__cudaRegisterFatBinary(void *code);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *name, const char *device_name, int limit,
                            void *thread, void *block, void *block_dim, void *grid_dim, int *warp);
unsigned int __cudaPushCallConfiguration(dimensions grid, dimensions block, size_t shared, void *stream);
int __cudaPopCallConfiguration(dimensions *grid, dimensions *block, size_t *shared, void *stream);

static const unsigned int CODE[8] = {0xba55ed50u};
static struct {
  int magic, version;
  const void *data;
  void *file;
} wrapper = {0x466243b1, 1, CODE, NULL};

/* The host's side of `kernel<<<grid, block>>>(value)`. */
static int kernel(int value) {
  dimensions grid, block;
  size_t shared;
  void *stream;
  void *arguments[] = {&value};
  CHECK(__cudaPopCallConfiguration(&grid, &block, &shared, &stream) == 0);
  return cudaLaunchKernel((const void *)(size_t)&kernel, grid, block, arguments, shared, stream);
}

int main(void) {
  int count, version;
  size_t before, after, total;
  void *memory, *nothing;
  char back[6] = "";
  void **handle = __cudaRegisterFatBinary(&wrapper);
  __cudaRegisterFunction(handle, (const char *)(size_t)&kernel, "kernel", "kernel", -1, NULL, NULL, NULL, NULL, NULL);
  __cudaRegisterFatBinaryEnd(handle);
  CHECK(cudaDriverGetVersion(&version) == 0 && version >= 11000);
  CHECK(cudaRuntimeGetVersion(&version) == 0 && (version == 11000 || version == 12000));
  CHECK(cudaGetDeviceCount(&count) == 0 && count == 2);
  CHECK(cudaSetDevice(2) == 101 && cudaGetLastError() == 101 && cudaGetLastError() == 0);
  CHECK(cudaSetDevice(1) == 0);
  CHECK(cudaMemGetInfo(&before, &total) == 0);
  CHECK(cudaMalloc(&memory, 1 << 20) == 0);
  CHECK(cudaMemGetInfo(&after, &total) == 0 && before - after == 1 << 20);
  CHECK(cudaMemcpy(memory, "hello", 6, 1) == 0 && cudaMemcpy(back, memory, 6, 2) == 0 && strcmp(back, "hello") == 0);
  CHECK(cudaMalloc(&nothing, total) == 2 && strcmp(cudaGetErrorString(2), "out of memory") == 0);
  CHECK(cudaGetLastError() == 2);
  CHECK(__cudaPushCallConfiguration((dimensions){1, 1, 1}, (dimensions){32, 1, 1}, 0, NULL) == 0 && kernel(1) == 0);
  CHECK(__cudaPushCallConfiguration((dimensions){1, 1, 1}, (dimensions){2048, 1, 1}, 0, NULL) == 0 && kernel(1) == 1);
  CHECK(cudaDeviceSynchronize() == 0);
  CHECK(cudaFree(memory) == 0 && cudaFree(memory) == 1);
  puts("ok");
  return 0;
}
