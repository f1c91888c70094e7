/* What the guard knows about the process it is in.
 *
 * Everything starts at the first hooked call, not in a constructor, and starts again in a forked child, which owns nothing of what
 * its parent was charged for.  A page that the kernel wipes on fork tells a child from its parent without a system call and
 * without handlers; kernels before 4.14 pay for getpid.
 */
#ifndef GUARD_PROCESS_H
#define GUARD_PROCESS_H

#include <stdbool.h>

/* True when this process has shares, whole or broken, hence something to enforce.  Cheap once set up. */
bool process_is_limited(void);

#endif
