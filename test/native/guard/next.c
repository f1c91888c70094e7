/* A program that looks up, behind itself, a name that it defines itself, and one that everybody behind it has. */
#include <dlfcn.h>
#include <stdio.h>

void *probe(void);
void *probe(void) { return dlsym(RTLD_NEXT, "probe"); }

int main(void) {
  void *printer = dlsym(RTLD_NEXT, "printf");
  void *again = dlsym(RTLD_NEXT, "printf");
  void *versioned = dlvsym(RTLD_DEFAULT, "printf", "GLIBC_2.2.5");
  const char *before = dlsym(RTLD_DEFAULT, "cuNothingOfThis") == NULL ? dlerror() : "found";
  printf("%d %d %d %d\n", probe() == NULL, printer != NULL && printer == again,
         versioned != NULL || sizeof(void *) != 8, before != NULL);
  return 0;
}
