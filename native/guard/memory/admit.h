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

/* The shares of a device, none where it has none here; CUDA_ERROR_OUT_OF_MEMORY when that cannot be known. */
CUresult admit_shares(CUdevice device, share_set *out);
/* Before a refusal: has the driver give back what this process does not need, and looks what it holds now. */
void admit_reclaim(CUdevice device);
/* CUDA_SUCCESS, or CUDA_ERROR_OUT_OF_MEMORY and nothing is charged.  admit_quietly does not count the refusal: the caller has another
 * way to serve the request. */
CUresult admit_quietly(struct admission *admission, const struct device_place *place, uint64_t bytes);
CUresult admit(struct admission *admission, const struct device_place *place, uint64_t bytes);
/* The driver gave nothing. */
void admit_cancel(struct admission *admission);
/* Makes the charge bytes, for allocations whose size only the driver knows; false when they do not fit (nothing changes). */
bool admit_resize(struct admission *admission, uint64_t bytes);
/* Gives back to the driver what it gave under key. */
typedef void admit_undo(uint64_t key);
/* After the driver's answer: keeps the charge under key, or cancels it when the driver gave nothing.  When the charge cannot be
 * remembered the memory is given back, and the answer is CUDA_ERROR_OUT_OF_MEMORY. */
CUresult admit_settle(struct admission *admission, CUresult result, enum ledger_kind kind, uint64_t key,
                      admit_undo *undo);
/* Remembers under key that bytes are charged to the share, and by what account; false when there is no room to. */
bool admit_remember(const ledger_entry *entry);
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

/* Around a call of the driver that ends an owner (see struct device_place) and with it all that it owns.  Meanwhile the estate is nobody's,
 * because the driver may give a new owner the old one's name before we are told.  It may also give an address away before it has freed
 * what lay there, so an estate is charged until the call is over, whoever gets its addresses meanwhile. */
uint64_t admit_estate(uint64_t owner);
void admit_estate_settle(uint64_t estate, uint64_t owner, bool ended);

#endif
