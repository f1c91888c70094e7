/* How a function of the guard says what went wrong: it returns a negative errno value and, where the caller gave an error, a
 * fixed text that names the cause.  The guard prints nothing; the text is for tests and for whoever debugs with a core file. */
#ifndef GUARD_ERROR_H
#define GUARD_ERROR_H

#include <stddef.h>

typedef struct guard_error {
  int code;         /* positive errno value, 0 when nothing failed */
  const char *what; /* static text */
} guard_error;

/* Fills err, which may be NULL, and returns -code. */
static inline int guard_fail(guard_error *err, int code, const char *what) {
  if (err != NULL) {
    err->code = code;
    err->what = what;
  }
  return -code;
}

#endif
