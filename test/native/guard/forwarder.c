/* Somebody else's preloaded library, of the common kind: it exports dlsym and one function of the driver, counts, and passes on. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

typedef void *find_fn(void *handle, const char *name);
typedef int alloc_fn(uint64_t *pointer, size_t bytes);

#define API __attribute__((visibility("default")))

API unsigned forwarded;

API void *dlsym(void *handle, const char *name) {
  find_fn *next = (find_fn *)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  if (next == NULL) next = (find_fn *)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.17");
  if (next == NULL) next = (find_fn *)dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  return next != NULL ? next(handle, name) : NULL;
}

API int cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
  alloc_fn *next = (alloc_fn *)dlsym(RTLD_NEXT, "cuMemAlloc_v2");
  forwarded++;
  return next != NULL ? next(pointer, bytes) : -1;
}
