/* Code: modules, libraries and their functions.  CUkernel and CUfunction are one thing here. */
#ifndef SIMGPU_CUDA_MODULE_H
#define SIMGPU_CUDA_MODULE_H

#include "context.h"
#include "global.h"

/* The kernel that takes as many nanoseconds as its one parameter, a u64, says. */
#define SLEEP_KERNEL "simgpu_sleep"

struct CUfunc_st {
  object object;
  CUmodule module;
  CUfunction next; /* of the module */
  int dynamic_shared_bytes;
  int preferred_carveout;
  bool sleeps;            /* takes the time that its one parameter says */
  uint32_t table_version; /* of the table that the duration is from; 0: of none */
  uint64_t duration_ns;
  char name[256];
  struct {
    unsigned int block[3];
    unsigned int shared_bytes;
    uint64_t parameter;
  } legacy; /* what launches before CUDA 4 set one by one */
};

struct CUmod_st {
  object object;
  CUcontext context; /* NULL: a library's */
  bool open_ended;   /* its kernels could not be listed: it has whatever is asked for */
  CUfunction functions;
  unsigned int function_count;
  module_global *globals;
  uint64_t image_bytes;
  context_cost cost; /* of image and variables, from when it is loaded onto the card */
};

/* Makes a module of an image, or CUDA_ERROR_INVALID_IMAGE. */
CUresult module_new(const void *image, CUcontext context, CUmodule *made);

/* Same, from a file. */
CUresult module_new_from_file(const char *path, CUcontext context, CUmodule *made);

void module_delete(CUmodule module);

/* The module's function of that name. */
CUresult module_function(CUmodule module, const char *name, CUfunction *function);

/* The place of the module's variable of that name, in its context or, of a library, the current one. */
CUresult module_variable(CUmodule module, const char *name, CUdeviceptr *address, size_t *size);

/* The function behind a CUfunction or a CUkernel. */
CUresult function_check(CUfunction function);

#endif
