/* Memory pools of stream-ordered allocation.
 *
 * A pool reserves memory of the card in units of POOL_UNIT_BYTES and is charged for what it reserves; its allocations
 * use up what is reserved.  What is freed in a stream can be had again in that stream at once, elsewhere when the stream
 * has come to it.  What they no longer use stays reserved until the next synchronisation of a stream, an event
 * or a context, and then as far as the release threshold says; until cuMemPoolTrimTo; or until anything else of this
 * process does not fit on the card.  There is no fragmentation: what is used needs no more than its sum, rounded up.
 */
#ifndef SIMGPU_CUDA_POOL_H
#define SIMGPU_CUDA_POOL_H

#include "driver.h"
#include "object.h"

#define POOL_UNIT_BYTES ((uint64_t)2 << 20)

struct CUmemPoolHandle_st {
  object object;
  CUdevice ordinal;
  bool is_default;
  bool closed;   /* destroyed, with allocations or frees left */
  bool imported; /* another process's: nothing is allocated from it here */
  int fd;        /* of a pool that can be shared, see pool_share.c; else -1 */
  uint64_t file_used;
  CUmemPoolProps properties;
  CUmemAccess_flags access[SIM_MAX_CARDS]; /* of other devices */
  cuuint64_t release_threshold;
  int reuse[3]; /* follow event dependencies, opportunistic, internal dependencies */
  uint64_t used_bytes, most_used_bytes;
  uint64_t freed_bytes; /* by streams that have not come to it yet */
  struct pool_free *frees;
  uint64_t reserved_bytes, most_reserved_bytes;
  CUmemoryPool next; /* of all */
};

/* A new pool without anything reserved; NULL when out of memory. */
CUmemoryPool pool_new(CUdevice ordinal, const CUmemPoolProps *properties);

/* Whether the handle is a pool that has not been destroyed. */
bool pool_open(CUmemoryPool pool);

/* The device's current pool. */
CUresult pool_current(CUdevice ordinal, CUmemoryPool *pool);

/* Uses `size` bytes of the pool, which reserves what it lacks, by work of a queue; and gives them back. */
CUresult pool_use(CUmemoryPool pool, uint64_t size, const void *by);
void pool_unuse(CUmemoryPool pool, uint64_t size);

/* What a synchronisation does to pools. */
void pool_synchronized(void);

/* Gives back all of the device that is reserved and not used; whether that was anything. */
bool pool_release_unused(CUdevice ordinal);

#endif
