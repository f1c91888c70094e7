/* Variables of modules: what PTX declares as .global or .const, and simgpu's own text as `global NAME SIZE`.
 *
 * A variable has its place in memory from the first time that somebody asks for it, until the module is unloaded or the
 * context ends.
 */
#ifndef SIMGPU_CUDA_GLOBAL_H
#define SIMGPU_CUDA_GLOBAL_H

#include "context.h"

typedef struct module_global module_global;

/* Finds the variables of a text; NULL when there are none, or no memory. */
module_global *globals_of_ptx(const char *text);
module_global *globals_of_own_text(const char *text);

/* Their bytes. */
uint64_t globals_size(const module_global *first);

/* The place of the variable of that name, in a context. */
CUresult global_find(module_global *first, const char *name, CUcontext context, CUdeviceptr *address, size_t *size);

void globals_delete(module_global *first);

#endif
