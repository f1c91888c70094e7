/* Physical memory of virtual memory management.
 *
 * It is charged when it is created and given back when nothing holds it any more: neither a handle nor a mapping, in no
 * process if it was exported (share.h).
 */
#ifndef SIMGPU_CUDA_PHYSICAL_H
#define SIMGPU_CUDA_PHYSICAL_H

#include "backing.h"
#include "object.h"

#define PHYSICAL_UNIT_BYTES (2u << 20) /* sizes and addresses are multiples of it */

typedef struct physical {
  object object;
  int fd;
  size_t size;
  CUdevice ordinal;
  bool on_card;
  sim_share_name share; /* once exported or imported */
  unsigned int handles;
  unsigned int mappings;
  CUmemAllocationProp properties;
} physical;

/* Takes the memory of a handle for a mapping; NULL if it is no handle of so much. */
physical *physical_map(CUmemGenericAllocationHandle handle, size_t size);

/* The end of a mapping. */
void physical_unmap(physical *gone);

#endif
