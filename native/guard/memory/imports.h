/* Memory that another process or another interface allocated, and this process holds too.
 *
 * Whoever allocated it may die first, and its charge with it, while the memory stays.  So who imports is charged in full, by the size
 * that the driver tells, for as long as it holds the memory: too much while the exporter lives in the same share.  Until the driver has told
 * the size it is too little: for an opened handle that is a moment, for an imported descriptor of physical memory the time until it is
 * mapped.
 */
#ifndef GUARD_IMPORTS_H
#define GUARD_IMPORTS_H

#include <stdbool.h>

#include "admit.h"

/* First use of the process, or of a forked child. */
void import_reset(void);
/* True while this process is charged for memory of others: the driver may put that down to its exporter. */
bool import_is_held(void);
/* Gives back what an entry of ACCOUNT_IMPORT was charged for. */
void import_refund(const ledger_entry *entry);
/* A buffer or array of an external memory object is gone. */
void import_unmapped(const ledger_entry *entry);

/* Around a mapping of physical memory.  Only now the size of an imported handle is known.  CUDA_SUCCESS, or nothing may be mapped. */
CUresult import_admit_mapping(struct admission *admission, CUmemGenericAllocationHandle handle, uint64_t bytes);
void import_settle_mapping(struct admission *admission, CUmemGenericAllocationHandle handle, CUresult result);

#endif
