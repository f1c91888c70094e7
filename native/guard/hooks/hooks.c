#include "hooks.h"

#include <string.h>

#include "cuda_api.h"

const struct guard_symbol_info guard_symbols[SYMBOL_COUNT] = {
#define X(library, name, base, since, twin) \
  [HOOK_##name] = {#name, LIBRARY_##library, #base, (guard_function *)name, since, TWIN_##twin},
    GUARD_HOOKS(X)
#undef X
#define X(library, name) [CALL_##name] = {#name, LIBRARY_##library, NULL, NULL, 0, TWIN_LEGACY},
        GUARD_CALLS(X)
#undef X
};

int guard_hook_named(const char *name) {
  for (int i = 0; i < HOOK_COUNT; i++) {
    if (strcmp(guard_symbols[i].name, name) == 0) return i;
  }
  return -1;
}
