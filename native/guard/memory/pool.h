/* The pools that stream-ordered memory comes from.
 *
 * A pool keeps memory after its program freed it; what it keeps is charged like what it handed out.  One struct pool stands for each
 * pool of the driver, made when the guard first meets it, whoever created it.
 */
#ifndef GUARD_POOL_H
#define GUARD_POOL_H

#include <stdbool.h>

#include "account.h"
#include "device.h"
#include "ledger.h"

struct pool;

/* First use of the process, or of a forked child. */
void pool_reset(void);
/* The pool behind a handle, NULL when nothing is charged for it; on_device says where an unknown one is taken to lie.
 * CUDA_ERROR_OUT_OF_MEMORY when it would have to be charged and cannot. */
CUresult pool_find(CUmemoryPool handle, CUdevice on_device, struct pool **out);
/* The pool that cuMemAllocAsync takes from on this device, or NULL. */
CUmemoryPool pool_current(CUdevice device);

/* One allocation: room before the driver is asked, and what came of it.  CUDA_SUCCESS or CUDA_ERROR_OUT_OF_MEMORY. */
struct pool_order {
  struct pool *pool;
  uint64_t bytes;
  CUstream stream;
  bool may_wait;     /* for the stream, so that what it has still to free can be given back */
  uint64_t admitted; /* by pool_admit */
};
CUresult pool_admit(struct pool_order *order);
/* What the driver's pools on this device grow by. */
uint64_t pool_granule(CUdevice device);
CUdevice pool_device(const struct pool *pool);
/* False when the driver took more for it than there is room for: the allocation has to go back. */
bool pool_settle(const struct pool_order *order, bool granted);
/* The program freed this much of the pool with that handle. */
void pool_freed(CUmemoryPool handle, uint64_t bytes);

/* Asks the driver anew what pools hold that hold more than the program does; cheap when there is none. */
void pool_refresh(void);
/* Makes the driver give back what the device's pools do not need. */
void pool_trim(CUdevice device);
/* After the end of a context: its allocations are gone without having been freed. */
void pool_context_ended(CUdevice device);

/* A pool whose memory is none of a device's, or charged elsewhere. */
void pool_ignore(CUmemoryPool handle);
/* The program destroys a pool.  The driver may hold memory for it much longer, so while it does the driver keeps the pool, too, and can
 * be asked about it; for the program it is gone. */
typedef CUresult pool_destroy_fn(CUmemoryPool pool);
CUresult pool_destroy(CUmemoryPool handle, pool_destroy_fn *destroy);

#endif
