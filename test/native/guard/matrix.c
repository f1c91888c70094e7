/* Says where names lead, for every way to look them up.
 *
 * usage: matrix ROUTE [HOW].  Standard input has one question a line, `NAME` or `BASE VERSION FLAGS`; the answer is
 * `question = symbol object`, or `question = -` where nothing is found.
 *   ROUTE  linked     the address that the linker gave (names of linked_names.h, nothing is read)
 *          local global deepbind      dlsym in the handle of the library, opened that way
 *          path                       likewise, opened from the directory $MATRIX_PATH under its full file name
 *          default next               dlsym(RTLD_DEFAULT), dlsym(RTLD_NEXT)
 *          versioned                  dlvsym in the handle
 *          borrowed borrowed-version  a dlsym that was looked up in the C library, by dlsym and by dlvsym
 *          address address_v2         both ABIs of cuGetProcAddress, looked up by dlsym
 *          address-of-address         cuGetProcAddress_v2 as told by itself
 *          namespace                  dlsym in the handle of the library in a link-map namespace of its own (dlmopen)
 *   HOW    plain thread fork vfork spawn exec: who asks
 * Compiled with EARLY (and no -ldl, so that dlsym is asked for without a version) it is a library that does this in a constructor, with $MATRIX_ROUTE, and ends the process. */
#include <dlfcn.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef void *find_fn(void *handle, const char *name);
typedef void *find_version_fn(void *handle, const char *name, const char *version);
typedef int address_fn(const char *symbol, void **function, int version, uint64_t flags);
typedef int address_v2_fn(const char *symbol, void **function, int version, uint64_t flags, int *status);

static const char *route = "local";
static void *cuda, *nvml;
extern char **environ;

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static void answer(const char *question, void *found) {
  Dl_info info;
  if (found == NULL || dladdr(found, &info) == 0 || info.dli_sname == NULL) {
    printf("%s = -\n", question);
    return;
  }
  const char *slash = strrchr(info.dli_fname, '/');
  printf("%s = %s %s\n", question, info.dli_sname, slash != NULL ? slash + 1 : info.dli_fname);
}

static void open_libraries(void) {
  int flags = RTLD_LAZY | RTLD_LOCAL;
  if (is(route, "global") || is(route, "default") || is(route, "next")) flags = RTLD_NOW | RTLD_GLOBAL;
  if (is(route, "deepbind")) flags |= RTLD_DEEPBIND;
  bool apart = is(route, "namespace");
  if (is(route, "path")) {
    char name[2][512];
    (void)snprintf(name[0], sizeof name[0], "%s/libcuda.so.1.0", getenv("MATRIX_PATH"));
    (void)snprintf(name[1], sizeof name[1], "%s/libnvidia-ml.so.1.0", getenv("MATRIX_PATH"));
    cuda = dlopen(name[0], flags);
    nvml = dlopen(name[1], flags);
    return;
  }
  cuda = apart ? dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW) : dlopen("libcuda.so.1", flags);
  nvml = apart ? dlmopen(LM_ID_NEWLM, "libnvidia-ml.so.1", RTLD_NOW) : dlopen("libnvidia-ml.so.1", flags);
}

/* dlsym as the C library has it, in whichever version there is. */
static find_fn *borrow(bool by_version) {
  static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.17", "GLIBC_2.2.5"};
  static const char *const libraries[] = {"libc.so.6", "libdl.so.2"};
  for (int i = 0; i < 2; i++) {
    void *handle = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL) continue;
    if (!by_version && dlsym(handle, "dlsym") != NULL) return (find_fn *)dlsym(handle, "dlsym");
    for (int v = 0; by_version && v < 3; v++) {
      void *found = dlvsym(handle, "dlsym", versions[v]);
      if (found != NULL) return (find_fn *)found;
    }
  }
  return NULL;
}

static void *look_up(const char *name) {
  void *handle = strncmp(name, "nvml", 4) == 0 ? nvml : cuda;
  if (is(route, "default")) return dlsym(RTLD_DEFAULT, name);
  if (is(route, "next")) return dlsym(RTLD_NEXT, name);
  if (is(route, "versioned")) return handle != NULL ? dlvsym(handle, name, "ANY") : NULL;
  find_fn *find = is(route, "borrowed") ? borrow(false) : is(route, "borrowed-version") ? borrow(true) : dlsym;
  return handle != NULL && find != NULL ? find(handle, name) : NULL;
}

static void *ask_address(const char *base, int version, uint64_t flags) {
  void *found = NULL;
  int status;
  if (is(route, "address")) {
    address_fn *ask = (address_fn *)dlsym(cuda, "cuGetProcAddress");
    return ask(base, &found, version, flags) == 0 ? found : NULL;
  }
  address_v2_fn *ask = (address_v2_fn *)dlsym(cuda, "cuGetProcAddress_v2");
  if (is(route, "address-of-address") && ask("cuGetProcAddress", &found, 13000, 0, &status) == 0) {
    ask = (address_v2_fn *)found;
  }
  return ask(base, &found, version, flags, &status) == 0 ? found : NULL;
}

static void answer_all(void) {
  char line[256], name[200];
  int version;
  unsigned long long flags;
#ifdef LINKED
  static const struct {
    const char *name;
    void *function;
  } linked[] = {
#define X(symbol) {#symbol, (void *)symbol},
#include "linked_names.h"
#undef X
  };
  for (size_t i = 0; is(route, "linked") && i < sizeof linked / sizeof *linked; i++) {
    answer(linked[i].name, linked[i].function);
  }
#endif
  open_libraries();
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    int words = sscanf(line, "%199s %d %llu", name, &version, &flags);
    if (words == 1) answer(line, look_up(name));
    if (words == 3) answer(line, ask_address(name, version, flags));
  }
  (void)fflush(stdout);
}

#ifdef EARLY
__attribute__((constructor(101))) static void before_everybody(void) {
  if (getenv("MATRIX_ROUTE") == NULL) return;
  route = getenv("MATRIX_ROUTE");
  answer_all();
  _exit(0);
}
#else
static void *in_thread(void *nothing) {
  answer_all();
  return nothing;
}

static int wait_for(pid_t child) {
  int status = 1;
  (void)waitpid(child, &status, 0);
  return status;
}

/* Itself once more, with the same route. */
static int again(char *program, const char *how) {
  char *words[] = {program, (char *)(uintptr_t)route, NULL};
  pid_t child;
  if (is(how, "exec")) return execv(program, words);
  if (is(how, "spawn")) return posix_spawn(&child, program, NULL, NULL, words, environ) != 0 ? 1 : wait_for(child);
  child = vfork();
  if (child == 0) {
    (void)execv(program, words);
    _exit(1);
  }
  return wait_for(child);
}

int main(int count, char **arguments) {
  const char *how = count > 2 ? arguments[2] : "plain";
  route = count > 1 ? arguments[1] : "local";
  setvbuf(stdin, NULL, _IONBF, 0);
  if (is(how, "plain")) answer_all();
  if (is(how, "thread")) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, NULL) != 0) return 1;
    (void)pthread_join(thread, NULL);
  }
  if (is(how, "fork")) {
    pid_t child = fork();
    if (child == 0) answer_all();
    return child == 0 ? 0 : wait_for(child);
  }
  if (is(how, "exec") || is(how, "spawn") || is(how, "vfork")) return again("/proc/self/exe", how);
  return 0;
}
#endif
