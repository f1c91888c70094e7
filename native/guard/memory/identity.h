/* Who this process is in the driver's lists.
 *
 * NVML names processes by their ids in some pid namespace: the reader's own, or the host's, whatever namespace the reader is in; by
 * the host's id of somebody else a process must not take itself.  So the list before this process's first context is compared with the
 * one after it: whoever is new, and has our id or is alone in being new, is us.  Where two begin at the same instant nobody can tell,
 * and where the driver lists nobody there is nothing to tell: we stay unknown. */
#ifndef GUARD_IDENTITY_H
#define GUARD_IDENTITY_H

#include <stdbool.h>

#include "cuda_api.h"

enum { IDENTITY_MOST = 1024 };

/* First use of the process, or of a forked child. */
void identity_reset(void);

/* Around the creation of a context; what is not the first one, or not alone in being it, is no news. */
void identity_before(nvmlDevice_t device);
void identity_after(nvmlDevice_t device, bool created);

/* Whether an entry of a list is this process. */
bool identity_is(unsigned int pid);

/* We are in the list and cannot tell which one we are. */
bool identity_is_ambiguous(void);

/* The processes with a context on the device; infos has room for IDENTITY_MOST.  False when the driver does not say. */
bool identity_list(nvmlDevice_t device, nvmlProcessInfo_t *infos, unsigned int *count);

#endif
