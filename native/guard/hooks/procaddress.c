/* Both ABIs of cuGetProcAddress: the driver resolves, then its answer is replaced by the hook that stands for that very function.
 * The driver thereby decides about versions, per-thread twins and errors. */
#include <stdbool.h>
#include <string.h>

#include "cuda_api.h"
#include "driver.h"
#include "gate.h"

enum { PER_THREAD_DEFAULT_STREAM_FLAG = 2, NEWEST_ABI = 9 };

static void *as_address(guard_function *function) {
  void *address;
  memcpy(&address, &function, sizeof address);
  return address;
}

/* Drivers exist whose cuGetProcAddress answers with addresses that they do not export.  Is this one of them? */
static bool is_exported(const char *base, const void *found) {
  static const char *const twins[] = {"", "_ptsz", "_ptds"};
  char name[96];
  if (strlen(base) > sizeof name - 16) return true;
  for (int abi = 1; abi <= NEWEST_ABI; abi++) {
    for (unsigned twin = 0; twin < sizeof twins / sizeof twins[0]; twin++) {
      size_t length = strlen(base);
      memcpy(name, base, length);
      if (abi > 1) {
        name[length++] = '_';
        name[length++] = 'v';
        name[length++] = (char)('0' + abi);
      }
      memcpy(name + length, twins[twin], strlen(twins[twin]) + 1);
      if (as_address(driver_lookup(LIBRARY_CUDA, name)) == found) return true;
    }
  }
  return false;
}

static bool is_family(int hook, int first) {
  return hook < HOOK_COUNT && strcmp(guard_symbols[hook].base, guard_symbols[first].base) == 0;
}

/* The hook that a name, a version and flags mean, by the rule of the CUDA headers: the newest ABI not above the version. */
static int hook_for(const char *base, int version, uint64_t flags) {
  bool per_thread = (flags & PER_THREAD_DEFAULT_STREAM_FLAG) != 0;
  int best = -1, first = guard_hook_family(base);
  for (int i = first; i >= 0 && is_family(i, first); i++) {
    const struct guard_symbol_info *hook = &guard_symbols[i];
    if (hook->since > version) continue;
    bool better = best < 0 || hook->since > guard_symbols[best].since ||
                  (hook->since == guard_symbols[best].since && (hook->twin != TWIN_LEGACY) == per_thread);
    if (better) best = i;
  }
  return best;
}

/* The hook whose real function, or which itself, is at this address; one of the family where several stand for one function. */
static int hook_at(const void *found, const char *base) {
  int first = guard_hook_family(base);
  for (int i = first; i >= 0 && is_family(i, first); i++) {
    if (as_address(driver_function((enum guard_symbol)i)) == found) return i;
  }
  for (int i = 0; i < HOOK_COUNT;
       i++) { /* addresses only: NVML's functions, which may not be there, are not looked for */
    if (guard_symbols[i].library != LIBRARY_CUDA) continue;
    if (as_address(driver_function((enum guard_symbol)i)) == found) return i;
  }
  return -1;
}

static bool is_own(const void *found) {
  for (int i = 0; i < HOOK_COUNT; i++) {
    if (as_address(guard_symbols[i].hook) == found) return true;
  }
  return false;
}

static void *substitute(const char *base, void *found, int version, uint64_t flags) {
  if (is_own(found)) return found; /* a driver whose own references the linker bound to us */
  int hook = hook_at(found, base);
  if (hook < 0) {
    int meant = hook_for(base, version, flags);
    if (meant >= 0 && !is_exported(base, found)) hook = meant;
  }
  return hook < 0 ? found : as_address(guard_symbols[hook].hook);
}

GUARD_EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                                          CUdriverProcAddressQueryResult *status) {
  __typeof__(&cuGetProcAddress_v2) real = REAL(cuGetProcAddress_v2);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  CUresult result = real(symbol, function, version, flags, status);
  if (result == CUDA_SUCCESS && *function != NULL) *function = substitute(symbol, *function, version, flags);
  return result;
}

GUARD_EXPORT CUresult cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
  __typeof__(&cuGetProcAddress) real = REAL(cuGetProcAddress);
  if (real == NULL) return CUDA_ERROR_NOT_INITIALIZED;
  CUresult result = real(symbol, function, version, flags);
  if (result == CUDA_SUCCESS && *function != NULL) *function = substitute(symbol, *function, version, flags);
  return result;
}
