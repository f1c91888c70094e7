/* The process's memory: a set of address ranges that never overlap, each with its owner and its charge.
 *
 * Device memory is host memory that the kernel backs page by page when it is touched: a card of 80 GiB costs what is
 * written to it.  The charge on the card is taken before the range exists and given back after it is gone.  What the
 * driver allocates comes from the arena (arena.h); ranges that others made, such as registered host memory, are kept
 * in a tree beside it.  As on hardware, a new allocation may contain what this process has freed before.
 */
#ifndef SIMGPU_CUDA_MEMORY_H
#define SIMGPU_CUDA_MEMORY_H

#include "context.h"
#include "share.h"

typedef enum memory_kind {
  MEMORY_NONE = 0, /* a block of the arena that is free */
  MEMORY_DEVICE = 1,
  MEMORY_MANAGED = 2,
  MEMORY_HOST = 4,
  MEMORY_REGISTERED = 8, /* the program's own, pinned */
  MEMORY_MAPPED = 16,    /* a piece of a reservation, see vmm.c */
  MEMORY_ARRAY = 32,
  MEMORY_IPC = 64,       /* another process's, opened by cuIpcOpenMemHandle */
  MEMORY_EXTERNAL = 128, /* a buffer of external memory, or a pointer of an imported pool */
  MEMORY_GLOBAL = 256,   /* a module's variable, which the module is charged for */
  MEMORY_GRAPH = 512,    /* allocated by a graph, see graph_memory.c */
} memory_kind;

typedef struct memory {
  uintptr_t base;
  size_t size;
  memory_kind kind;
  CUcontext context; /* NULL: outlives contexts */
  CUdevice ordinal;
  unsigned int flags;
  uint64_t charged_bytes;
  CUmemoryPool pool;
  const void *queue;  /* of the stream that allocates from the pool */
  void *physical;     /* of MEMORY_MAPPED */
  bool inaccessible;  /* to all devices */
  uint32_t read_only; /* devices, by ordinal, that may read MEMORY_MAPPED */
  uint32_t writable;  /* and those that may write to it */
  bool shared;        /* its bytes are in a file that others map: */
  int fd;
  uint64_t offset;
  sim_share_name share; /* what it counts as, instead of charged_bytes */
  bool touched;         /* its pages may hold data */
  unsigned long long id;
  struct memory *previous, *next;
} memory;

/* Charges the device's card, with what pools of this process have reserved without need if nothing else is left. */
CUresult memory_charge(CUdevice ordinal, uint64_t bytes);
void memory_discharge(CUdevice ordinal, uint64_t bytes);

/* Charges (all of it on the card for MEMORY_DEVICE and MEMORY_ARRAY, what fits for MEMORY_MANAGED, nothing else),
 * maps and records a new range for `wanted->size` bytes.  The address goes to `address`. */
CUresult memory_new(const memory *wanted, uintptr_t *address);

/* Records a range that exists already; CUDA_ERROR_ALREADY_MAPPED if it overlaps another. */
CUresult memory_record(const memory *wanted);

/* Frees the range that begins at `address` if its kind is one of `kinds`. */
CUresult memory_free(uintptr_t address, unsigned int kinds);

/* Takes a range out of its pool, whose figures are the caller's business then; NULL when it is in none. */
CUmemoryPool memory_leave_pool(uintptr_t base);

/* Forgets that range without freeing anything, and copies what was known of it. */
bool memory_forget(uintptr_t address, unsigned int kinds, memory *gone);

/* Copies what is known of the range around `address`. */
bool memory_find(uintptr_t address, memory *copy);

/* Sets what a device may do with a piece of a reservation, and says what pages must now allow (PROT_*). */
int memory_set_access(uintptr_t address, CUdevice ordinal, CUmemAccess_flags flags);

/* Moves an allocation's bytes into a file at `offset`, which from now on is mapped in their place.  Its charge becomes
 * that of `share`, unless this is SIM_NO_SHARE.  The descriptor is closed with the allocation if it has a share. */
CUresult memory_move_to_file(uintptr_t address, int fd, uint64_t offset, sim_share_name share);

/* Frees what belongs to a context. */
void memory_release_context(CUcontext context);

/* Whether size bytes from `address` lie in memory that a card can reach. */
CUresult memory_check_device(CUdeviceptr address, size_t size);

/* The same for an address that may also be the program's own memory. */
CUresult memory_check_any(CUdeviceptr address, size_t size);

#endif
