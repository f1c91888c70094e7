#include "hooks.h"

#include <string.h>

#include "hook_index.h"

const struct guard_symbol_info guard_symbols[SYMBOL_COUNT] = {
#define X(library, name, base, since, twin) \
  [HOOK_##name] = {#name, LIBRARY_##library, #base, (guard_function *)name, since, TWIN_##twin},
    GUARD_HOOKS(X)
#undef X
#define X(library, name) [CALL_##name] = {#name, LIBRARY_##library, NULL, NULL, 0, TWIN_LEGACY},
        GUARD_CALLS(X)
#undef X
};

/* 32-bit FNV-1a, as in gen/hooks.py. */
static uint32_t hash(const char *text) {
  uint32_t value = 2166136261u;
  for (; *text != '\0'; text++) value = (value ^ (unsigned char)*text) * 16777619u;
  return value;
}

#define SLOTS(index) (sizeof(index) / sizeof(index)[0])

int guard_hook_named(const char *name) {
  for (size_t at = hash(name) % SLOTS(by_name); by_name[at] != 0; at = (at + 1) % SLOTS(by_name)) {
    if (strcmp(guard_symbols[by_name[at] - 1].name, name) == 0) return by_name[at] - 1;
  }
  return -1;
}

int guard_hook_family(const char *base) {
  for (size_t at = hash(base) % SLOTS(by_base); by_base[at] != 0; at = (at + 1) % SLOTS(by_base)) {
    if (strcmp(guard_symbols[by_base[at] - 1].base, base) == 0) return by_base[at] - 1;
  }
  return -1;
}
