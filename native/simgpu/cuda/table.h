/* Tables that gen/cuda.py makes from NVIDIA's public headers. */
#ifndef SIMGPU_CUDA_TABLE_H
#define SIMGPU_CUDA_TABLE_H

#include <stddef.h>

/* One ABI of one function, as cuGetProcAddress knows it; ordered by name, then by version. */
typedef struct procedure {
  const char *name; /* without suffixes */
  int cuda_version; /* from which on a caller gets this ABI: 3020 */
  void *function;
  void *per_thread; /* its twin for the per-thread default stream, or NULL */
} procedure;

extern const procedure PROCEDURES[];
extern const size_t PROCEDURE_COUNT;

typedef struct error_name {
  int code;
  const char *name;
  const char *text;
} error_name;

extern const error_name ERROR_NAMES[];
extern const size_t ERROR_NAME_COUNT;

#endif
