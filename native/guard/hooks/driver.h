/* The driver libraries that this process loaded, and their real functions.
 *
 * The guard finds the copy that the program loaded, keeps it from being unloaded, and remembers what that copy exports.  Only NVML it
 * loads itself (driver_load), in a program that makes a CUDA context: nobody else knows what the driver takes for itself.  All look-ups go to the C library's own dlsym, found without asking the dynamic linker for a name that the guard
 * itself exports.
 */
#ifndef GUARD_DRIVER_H
#define GUARD_DRIVER_H

#include <stdbool.h>

#include "cuda_api.h"
#include "hooks.h"

typedef void *driver_dlsym_fn(void *handle, const char *name);
typedef void *driver_dlvsym_fn(void *handle, const char *name, const char *version);

/* The C library's functions; NULL where there is none. */
driver_dlsym_fn *driver_libc_dlsym(void);
driver_dlvsym_fn *driver_libc_dlvsym(void);

/* The real function behind a symbol, or NULL while its library is not loaded or when it has none of this name. */
guard_function *driver_function(enum guard_symbol symbol);
/* Loads the library if the program did not; false when there is none. */
bool driver_load(enum guard_library library);
/* What the library exports under any other name, or NULL. */
guard_function *driver_lookup(enum guard_library library, const char *name);

/* The real function of a hook, with the hook's type. */
#define REAL(name) ((__typeof__(&(name)))driver_function(HOOK_##name))
/* A function that table.txt says is called, with its type. */
#define DRIVER(name) ((name##_fn *)driver_function(CALL_##name))

#endif
