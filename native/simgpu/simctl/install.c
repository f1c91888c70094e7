/* The files of a driver package: versioned libraries with their links, and the tools. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simctl.h"

/* Drivers of this major export whatever the newest headers have: programs that are linked to newer names still start. */
#define ALL_NAMES_FROM 13000u

static int copy_bytes(int from, int into) {
  char buffer[65536];
  for (;;) {
    ssize_t got = read(from, buffer, sizeof buffer);
    if (got <= 0) return (int)got;
    for (ssize_t done = 0; done < got;) {
      ssize_t put = write(into, buffer + done, (size_t)(got - done));
      if (put < 0) return -1;
      done += put;
    }
  }
}

/* Copies through a temporary name and a rename: a program that has the old file mapped keeps it.  With `cuda_version` the
 * copy exports what a driver of that version does. */
static int copy_file(const char *from, const char *root, const char *name, uint32_t cuda_version) {
  char path[PATH_MAX];
  char scratch[PATH_MAX];
  int failed = path_join(path, root, name);
  if (failed) return failed;
  if ((size_t)snprintf(scratch, sizeof scratch, "%s.%ld.tmp", path, (long)getpid()) >= sizeof scratch)
    return simctl_fail("%.60s...: path too long", path);
  int source = open(from, O_RDONLY | O_CLOEXEC);
  if (source < 0) return simctl_fail("%s: %s", from, strerror(errno));
  int target = open(scratch, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  bool bad = target < 0 || copy_bytes(source, target) != 0 || fchmod(target, 0755) != 0;
  close(source);
  if (target >= 0 && close(target) != 0) bad = true;
  if (!bad && cuda_version != 0 && cuda_version < ALL_NAMES_FROM) {
    failed = hide_exports(scratch, cuda_version);
    if (failed) unlink(scratch);
    if (failed) return failed;
  }
  if (bad || rename(scratch, path) != 0) {
    failed = simctl_fail("%s: %s", path, strerror(errno));
    unlink(scratch);
  }
  return failed;
}

static int make_link(const char *root, const char *name, const char *target) {
  char path[PATH_MAX];
  char scratch[PATH_MAX];
  int failed = path_join(path, root, name);
  if (failed) return failed;
  if ((size_t)snprintf(scratch, sizeof scratch, "%s.%ld.tmp", path, (long)getpid()) >= sizeof scratch)
    return simctl_fail("%.60s...: path too long", path);
  if (symlink(target, scratch) != 0 || rename(scratch, path) != 0) return simctl_fail("%s: %s", path, strerror(errno));
  return SIMCTL_OK;
}

static int install_library(const char *from_folder, const char *root, const char *stem, const char *version,
                           uint32_t cuda_version) {
  char source[PATH_MAX];
  char file[128];
  char name[256];
  snprintf(file, sizeof file, "%s.so.1", stem);
  int failed = path_join(source, from_folder, file);
  snprintf(file, sizeof file, "%s.so.%s", stem, version);
  snprintf(name, sizeof name, "usr/lib64/%s", file);
  if (!failed) failed = copy_file(source, root, name, cuda_version);
  snprintf(name, sizeof name, "usr/lib64/%s.so.1", stem);
  if (!failed) failed = make_link(root, name, file);
  snprintf(file, sizeof file, "%s.so.1", stem);
  snprintf(name, sizeof name, "usr/lib64/%s.so", stem);
  if (!failed) failed = make_link(root, name, file);
  return failed;
}

int install_driver(const char *root, const char *driver_version, uint32_t cuda_version) {
  char self[PATH_MAX] = "";
  char folder[PATH_MAX];
  char target[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  if (length < 0) return simctl_fail("/proc/self/exe: %s", strerror(errno));
  self[length] = '\0';
  snprintf(folder, sizeof folder, "%s", self);
  *strrchr(folder, '/') = '\0';
  /* An installed simctl has nothing beside it, and its root has the libraries already. */
  int failed = path_join(target, folder, "libcuda.so.1");
  if (failed || access(target, R_OK) != 0) return failed;
  if (!failed) failed = path_join(target, root, "usr/lib64");
  if (!failed) failed = make_folders(target);
  if (!failed) failed = path_join(target, root, "usr/bin");
  if (!failed) failed = make_folders(target);
  if (!failed) failed = install_library(folder, root, "libcuda", driver_version, cuda_version);
  if (!failed) failed = install_library(folder, root, "libnvidia-ml", driver_version, cuda_version);
  if (!failed) failed = copy_file(self, root, "usr/bin/simctl", 0);
  if (!failed) failed = make_link(root, "usr/bin/nvidia-smi", "simctl");
  if (!failed) failed = make_link(root, "usr/bin/nvidia-cuda-mps-control", "simctl");
  return failed;
}
