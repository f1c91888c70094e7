#include "driver.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "elf_find.h"

static const char *const sonames[LIBRARY_COUNT] = {[LIBRARY_CUDA] = "libcuda.so.1",
                                                   [LIBRARY_NVML] = "libnvidia-ml.so.1"};

#if defined(__x86_64__)
#define MACHINE "x86_64"
#else
#define MACHINE "aarch64"
#endif
#define MUSL_LOADER "ld-musl-" MACHINE ".so.1"

/* Threads that meet here compute the same values; no lock is held across the dynamic linker, which has locks of its own. */
static _Atomic(void *) libc_dlsym;
static _Atomic(void *) libc_dlvsym;
static _Atomic(void *) handles[LIBRARY_COUNT];
static _Atomic(void *) functions[SYMBOL_COUNT];
static atomic_bool resolved[LIBRARY_COUNT];

/* ISO C has no conversion between the two kinds of pointers; POSIX promises that the bits fit. */
static guard_function *as_function(void *address) {
  guard_function *function;
  memcpy(&function, &address, sizeof function);
  return function;
}

static void *from_libc(_Atomic(void *) *cache, const char *name) {
  void *found = atomic_load_explicit(cache, memory_order_acquire);
  if (found != NULL) return found;
  static const char *const libraries[] = {
      "libc.so.6", "libdl.so.2",                           /* before glibc 2.34 */
      MUSL_LOADER, "libc.musl-" MACHINE ".so.1", "libc.so" /* musl under its various names: dlsym must go on working */
  };
  for (size_t i = 0; found == NULL && i < sizeof libraries / sizeof libraries[0]; i++) {
    found = elf_find(libraries[i], name);
  }
  atomic_store_explicit(cache, found, memory_order_release);
  return found;
}

driver_dlsym_fn *driver_libc_dlsym(void) { return (driver_dlsym_fn *)as_function(from_libc(&libc_dlsym, "dlsym")); }

driver_dlvsym_fn *driver_libc_dlvsym(void) {
  return (driver_dlvsym_fn *)as_function(from_libc(&libc_dlvsym, "dlvsym"));
}

/* These two are looked up as well: linked, they would bring libdl into every process, of CUDA or not. */
typedef void *open_fn(const char *, int);
typedef char *error_fn(void);

/* how: RTLD_NOLOAD or RTLD_LOCAL. */
static void *opened(const char *soname, int how) {
  static _Atomic(void *) libc_dlopen;
  open_fn *open = (open_fn *)as_function(from_libc(&libc_dlopen, "dlopen"));
  return open != NULL ? open(soname, RTLD_LAZY | RTLD_NODELETE | how) : NULL;
}

static void forget_error(void) {
  static _Atomic(void *) libc_dlerror;
  error_fn *error = (error_fn *)as_function(from_libc(&libc_dlerror, "dlerror"));
  if (error != NULL) (void)error();
}

static bool resolve(enum guard_library library, int how) {
  int saved = errno;
  driver_dlsym_fn *find = driver_libc_dlsym();
  void *handle = opened(sonames[library], how);
  if (handle != NULL && find != NULL) {
    for (int i = 0; i < SYMBOL_COUNT; i++) {
      if (guard_symbols[i].library == library)
        atomic_store_explicit(&functions[i], find(handle, guard_symbols[i].name), memory_order_relaxed);
    }
    atomic_store_explicit(&handles[library], handle, memory_order_relaxed);
    atomic_store_explicit(&resolved[library], true, memory_order_release);
  }
  forget_error(); /* what the program asks for next is its own error */
  errno = saved;
  return handle != NULL && find != NULL;
}

static bool is_resolved(enum guard_library library) {
  return __builtin_expect(atomic_load_explicit(&resolved[library], memory_order_acquire), 1) ||
         resolve(library, RTLD_NOLOAD);
}

bool driver_load(enum guard_library library) { return is_resolved(library) || resolve(library, RTLD_LOCAL); }

guard_function *driver_function(enum guard_symbol symbol) {
  if (!is_resolved(guard_symbols[symbol].library)) return NULL;
  return as_function(atomic_load_explicit(&functions[symbol], memory_order_relaxed));
}

guard_function *driver_lookup(enum guard_library library, const char *name) {
  if (!is_resolved(library)) return NULL;
  void *found = driver_libc_dlsym()(atomic_load_explicit(&handles[library], memory_order_relaxed), name);
  forget_error();
  return as_function(found);
}
