/* Memory that another process or another interface allocated, and this process holds too.
 *
 * Whoever allocated it may die first, and the memory stays.  What a process of the same share exported is a credit (credit.h): who imports
 * it joins the holders before the driver is asked, and nothing more is charged.  Memory from elsewhere is charged in full to the importer,
 * once to all importers of its share: before the driver is asked where the descriptor tells its size (token.h), else when the driver has
 * told it, which for a handle that was opened is a moment.
 */
#ifndef GUARD_IMPORTS_H
#define GUARD_IMPORTS_H

#include <stdbool.h>

#include "admit.h"

/* First use of the process, or of a forked child. */
void import_reset(void);
/* True while this process holds memory of others: the driver may put that down to its exporter. */
bool import_is_held(void);
/* Gives back what an entry of ACCOUNT_IMPORT or ACCOUNT_JOINT stands for. */
void import_refund(const ledger_entry *entry);
/* A buffer or array of an external memory object is gone. */
void import_unmapped(const ledger_entry *entry);

/* Around a mapping of physical memory: where the driver did not tell the size of an imported handle, it does now.  CUDA_SUCCESS, or nothing
 * may be mapped. */
CUresult import_admit_mapping(struct admission *admission, CUmemGenericAllocationHandle handle, uint64_t bytes);
void import_settle_mapping(struct admission *admission, CUmemGenericAllocationHandle handle, CUresult result);

#endif
