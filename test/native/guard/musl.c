/* A program of a musl distribution: looks names up, starts a child, allocates, and reports. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
  int status = 1;
  void *memory = malloc(1 << 20);
  errno = 12345;
  void *known = dlsym(RTLD_DEFAULT, "strlen"), *next = dlsym(RTLD_NEXT, "printf");
  void *driver = dlsym(RTLD_DEFAULT, "cuMemAlloc_v2");
  int kept = errno == 12345;
  void *missing = dlopen("libcuda.so.1", RTLD_NOW);
  pid_t child = fork();
  if (child == 0) _exit(memory != NULL ? 7 : 8);
  (void)waitpid(child, &status, 0);
  printf("%d %d %d %d %d %d\n", known != NULL, next != NULL, driver != NULL, kept, missing != NULL,
         WEXITSTATUS(status));
  return 0;
}
