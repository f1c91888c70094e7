/* Runs a command and writes the system calls that it (not its children) makes, one a line, into a file: those that a dynamic
 * linker makes for one library more as `loading`, others by their number.
 *
 * usage: syscalls FILE COMMAND... */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Linux 5.3; declared here because its header and the C library's cannot be included together. */
enum { GET_SYSCALL_INFO = 0x420e, AT_ENTRY = 1 };
struct syscall_info {
  uint8_t at;
  uint32_t architecture;
  uint64_t instruction, stack, number, arguments[6];
};

static const long loading[] = {
    SYS_openat, SYS_read, SYS_pread64, SYS_fstat, SYS_newfstatat, SYS_mmap, SYS_mprotect, SYS_close, SYS_munmap,
#ifdef SYS_open
    SYS_open,
#endif
};

static void name(FILE *out, long number) {
  for (size_t i = 0; i < sizeof loading / sizeof *loading; i++) {
    if (loading[i] == number) {
      (void)fputs("loading\n", out);
      return;
    }
  }
  (void)fprintf(out, "%ld\n", number);
}

static void show(FILE *out, pid_t child) {
  struct syscall_info info;
  memset(&info, 0, sizeof info);
  if (ptrace((enum __ptrace_request)GET_SYSCALL_INFO, child, sizeof info, &info) <= 0) exit(3);
  if (info.at == AT_ENTRY) name(out, (long)info.number);
}

int main(int count, char **arguments) {
  if (count < 3) return 2;
  FILE *out = fopen(arguments[1], "w");
  pid_t child = fork();
  if (child == 0) {
    (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    (void)raise(SIGSTOP);
    (void)execvp(arguments[2], arguments + 2);
    _exit(127);
  }
  int status, signal_number = 0;
  if (out == NULL || child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 3;
  (void)ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
  while (ptrace(PTRACE_SYSCALL, child, NULL, (void *)(long)signal_number) == 0 && waitpid(child, &status, 0) == child) {
    signal_number = 0;
    if (WIFEXITED(status)) return WEXITSTATUS(status) + fclose(out);
    if (!WIFSTOPPED(status)) return 3;
    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
      show(out, child);
    } else if (WSTOPSIG(status) != SIGTRAP) {
      signal_number = WSTOPSIG(status);
    }
  }
  return 3;
}
