/* What the guard hooks, and what it calls itself: enumerated and described.  Everything that is not hooked reaches the driver
 * untouched.  The lists come from table.txt, which says how to add a hook. */
#ifndef GUARD_HOOKS_H
#define GUARD_HOOKS_H

#include <stdint.h>

#include "hook_table.h"

enum guard_library { LIBRARY_CUDA, LIBRARY_NVML, LIBRARY_COUNT };
enum guard_twin { TWIN_LEGACY, TWIN_PTSZ, TWIN_PTDS };

enum guard_symbol {
#define X(library, name, base, since, twin) HOOK_##name,
  GUARD_HOOKS(X)
#undef X
      HOOK_COUNT,
  CALLS_START = HOOK_COUNT - 1,
#define X(library, name) CALL_##name,
  GUARD_CALLS(X)
#undef X
      SYMBOL_COUNT,
};

typedef void guard_function(void);

struct guard_symbol_info {
  const char *name;
  enum guard_library library;
  const char *base; /* hooks only, as the next three */
  guard_function *hook;
  int since;
  enum guard_twin twin;
};

/* By enum guard_symbol. */
extern const struct guard_symbol_info guard_symbols[SYMBOL_COUNT];

/* The hook with this exported name, or -1. */
int guard_hook_named(const char *name);
/* The first hook of the family that cuGetProcAddress knows by this name, or -1; the others follow it. */
int guard_hook_family(const char *base);

#endif
