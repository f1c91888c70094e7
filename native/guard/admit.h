/* Admission: may this much more device memory be taken, and who pays?
 *
 * Every allocating hook does the same: admit, ask the driver, then keep the charge under the key of what the driver gave, or
 * cancel it.  Fail closed: no answer about shares is no memory.
 */
#ifndef GUARD_ADMIT_H
#define GUARD_ADMIT_H

#include <stdbool.h>

#include "cuda_api.h"
#include "device.h"
#include "ledger.h"

struct admission {
  bool charged; /* false: the device has no share here */
  unsigned share;
  uint64_t bytes;
  struct device_place place;
};

/* CUDA_SUCCESS, or CUDA_ERROR_OUT_OF_MEMORY and nothing is charged. */
CUresult admit(struct admission *admission, const struct device_place *place, uint64_t bytes);
/* The driver gave nothing. */
void admit_cancel(struct admission *admission);
/* Makes the charge bytes, for allocations whose size only the driver knows; false when they do not fit (nothing changes). */
bool admit_resize(struct admission *admission, uint64_t bytes);
/* The driver gave what key names; false when that cannot be remembered: give it back to the driver, the charge is cancelled. */
bool admit_keep(struct admission *admission, enum ledger_kind kind, uint64_t key);
/* Gives back what an entry taken from the ledger was charged for. */
void admit_refund(const ledger_entry *entry);

/* Around a call of the driver that frees.  The entry leaves the ledger before the driver may give its key to another thread, the
 * charge goes after the memory is gone.  What nobody here was charged for is the driver's business alone. */
struct refund {
  bool found;
  ledger_entry entry;
};
struct refund refund_begin(enum ledger_kind kind, uint64_t key);
CUresult refund_end(const struct refund *refund, CUresult result);

/* Gives back all that died with its owner (see struct device_place). */
void admit_refund_owned(uint64_t owner);

#endif
