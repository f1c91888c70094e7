#ifndef GUARD_EXPORTS_H
#define GUARD_EXPORTS_H

/* First use of the process, or of a forked child. */
void export_reset(void);

#endif
