/* Folders and small files below a driver root. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simctl.h"

int simctl_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("simctl: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  return SIMCTL_FAILED;
}

int simctl_fail_status(const char *root, sim_status status) {
  switch (status) {
    case SIM_ABSENT:
      return simctl_fail("%s/" SIM_STATE_PATH ": no simulated node here; make one with `simctl create --root %s`", root,
                         root);
    case SIM_DENIED: return simctl_fail("%s/" SIM_STATE_PATH ": permission denied", root);
    case SIM_INVALID:
      return simctl_fail("%s/" SIM_STATE_PATH ": damaged, or of another version; delete it and create the node anew",
                         root);
    case SIM_BUSY:
      return simctl_fail("%s/" SIM_STATE_PATH ": the lock could not be had, or all %u process slots are taken", root,
                         SIM_MAX_SLOTS);
    default: return simctl_fail("%s/" SIM_STATE_PATH ": %s", root, strerror(errno));
  }
}

int path_join(char path[PATH_MAX], const char *root, const char *name) {
  if ((size_t)snprintf(path, PATH_MAX, "%s/%s", root, name) < PATH_MAX) return SIMCTL_OK;
  return simctl_fail("%.60s...: path too long", root);
}

int make_folders(const char *path) {
  char part[PATH_MAX];
  if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part)
    return simctl_fail("%.60s...: path too long", path);
  for (char *slash = part + 1;; slash++) {
    bool last = *slash == '\0';
    if (*slash != '/' && !last) continue;
    *slash = '\0';
    if (mkdir(part, 0755) != 0 && errno != EEXIST) return simctl_fail("%s: %s", part, strerror(errno));
    if (last) return SIMCTL_OK;
    *slash = '/';
  }
}

int write_text(const char *root, const char *name, const char *text) {
  char path[PATH_MAX];
  int failed = path_join(path, root, name);
  if (failed) return failed;
  FILE *file = fopen(path, "we");
  if (file == NULL) return simctl_fail("%s: %s", path, strerror(errno));
  bool bad = fputs(text, file) < 0;
  if (fclose(file) != 0 || bad) return simctl_fail("%s: %s", path, strerror(errno));
  return SIMCTL_OK;
}
