/* NVIDIA's public headers, in the form that declares every ABI and every per-thread twin under its exported name: cuMemAlloc is the
 * 32-bit one of CUDA 2, cuMemAlloc_v2 today's. */
#ifndef GUARD_CUDA_API_H
#define GUARD_CUDA_API_H

#define __CUDA_API_VERSION_INTERNAL
#define NVML_NO_UNVERSIONED_FUNC_DEFS

#include <cuda.h>
#include <nvml.h>

#undef cuGetProcAddress_v2 /* a twin that the header makes itself, of the function */

#endif
