/* nvidia-cuda-mps-control: the control daemon of MPS (-f) and the program that talks to it.
 *
 * What it does to cards is to let all processes of theirs run at once (`mps` of their engines) while it lives.  It is daemon and
 * server in one process; a server exists from the first client on, as NVIDIA's does.  Clients are known by their connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "mps_pipe.h"
#include "simctl.h"

#define MOST_CONNECTIONS 256
#define MOST_CARDS 8

typedef struct setting {
  unsigned percent; /* of the multiprocessors */
  uint64_t memory_bytes;
} setting;

typedef struct daemon_state {
  const char *root;
  const char *pipes;
  FILE *log;
  int cards[MOST_CARDS];
  int card_count;
  bool serving; /* a server has been started */
  setting defaults, server;
  nfds_t count;
  struct pollfd connections[MOST_CONNECTIONS]; /* the first one listens */
  bool quit;
} daemon_state;

static volatile sig_atomic_t told_to_end;

static void end(int number) {
  (void)number;
  told_to_end = 1;
}

static void say(daemon_state *of, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(daemon_state *of, const char *format, ...) {
  va_list arguments;
  if (of->log == NULL) return;
  va_start(arguments, format);
  fprintf(of->log, "[%lld Control %ld] ", (long long)time(NULL), (long)getpid());
  vfprintf(of->log, format, arguments);
  fputc('\n', of->log);
  fflush(of->log);
  va_end(arguments);
}

static int set_cards(const daemon_state *of, int mps) {
  int failed = SIMCTL_OK;
  for (int i = 0; i < of->card_count; i++) {
    const node_settings settings = {.card = of->cards[i], .mps = mps, .driver_memory = -1, .foreign_ids = -1};
    int one = simctl_set(of->root, &settings);
    if (one) failed = one;
  }
  return failed;
}

/* The cards that $CUDA_VISIBLE_DEVICES names by UUID; the first one when it is not set. */
static int find_cards(daemon_state *of) {
  const char *visible = getenv("CUDA_VISIBLE_DEVICES");
  char uuid[64];
  if (visible == NULL) {
    of->card_count = 1;
    return SIMCTL_OK;
  }
  while (*visible != '\0' && of->card_count < MOST_CARDS) {
    size_t length = strcspn(visible, ",");
    if (length >= sizeof uuid) return simctl_fail("CUDA_VISIBLE_DEVICES: %.60s...: no UUID", visible);
    memcpy(uuid, visible, length);
    uuid[length] = '\0';
    int failed = card_of_id(of->root, uuid, &of->cards[of->card_count]);
    if (failed) return failed;
    of->card_count++;
    visible += length + (visible[length] == ',');
  }
  return SIMCTL_OK;
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

static bool set_percent(setting *into, const char *text) {
  double percent = strtod(text, NULL);
  if (percent <= 0 || percent > 100) return false;
  into->percent = (unsigned)(percent + 0.5);
  return true;
}

static bool set_memory(setting *into, const char *device, const char *size) {
  if (strcmp(device, "0") != 0 || mps_size(size) == 0) return false;
  into->memory_bytes = mps_size(size);
  return true;
}

static bool is_server(const daemon_state *of, const char *pid) { return of->serving && atol(pid) == (long)getpid(); }

/* What a line of the control program does; false: no such command, or wrong values. */
static bool obey(daemon_state *of, const char *line, char *answer, size_t room) {
  char word[64] = "", one[64] = "", two[64] = "", three[64] = "";
  int words = sscanf(line, "%63s %63s %63s %63s", word, one, two, three);
  *answer = '\0';
  if (strcmp(word, "get_server_list") == 0) {
    if (of->serving) snprintf(answer, room, "%ld\n", (long)getpid());
    return true;
  }
  if (strcmp(word, "get_default_active_thread_percentage") == 0) {
    snprintf(answer, room, "%u.0\n", of->defaults.percent);
    return true;
  }
  if (strcmp(word, "set_default_active_thread_percentage") == 0) return words == 2 && set_percent(&of->defaults, one);
  if (strcmp(word, "set_default_device_pinned_mem_limit") == 0)
    return words == 3 && set_memory(&of->defaults, one, two);
  if (strcmp(word, "set_active_thread_percentage") == 0)
    return words == 3 && is_server(of, one) && set_percent(&of->server, two);
  if (strcmp(word, "set_device_pinned_mem_limit") == 0)
    return words == 4 && is_server(of, one) && set_memory(&of->server, two, three);
  if (strcmp(word, "quit") == 0) {
    of->quit = true;
    return true;
  }
  return false;
}

static void welcome(daemon_state *of, char *packet) {
  if (!of->serving) {
    of->serving = true;
    of->server = of->defaults;
    say(of, "Starting new server %ld for user 0", (long)getpid());
  }
  say(of, "New client");
  snprintf(packet, MPS_LONGEST, MPS_WELCOME, of->server.percent, (unsigned long long)of->server.memory_bytes);
}

/* Answers one packet; false when the connection has ended. */
static bool serve(daemon_state *of, int fd) {
  char packet[MPS_LONGEST];
  char answer[MPS_LONGEST - 1];
  ssize_t got = recv(fd, packet, sizeof packet - 1, 0);
  if (got <= 0) return false;
  packet[got] = '\0';
  if (strcmp(packet, MPS_JOIN) == 0) {
    welcome(of, packet);
  } else {
    if (!obey(of, packet, answer, sizeof answer))
      snprintf(answer, sizeof answer, "Invalid command or value: %.400s\n", packet);
    snprintf(packet, sizeof packet, "%c%s", MPS_ANSWER, answer);
  }
  return send(fd, packet, strlen(packet), MSG_NOSIGNAL) >= 0;
}

/* ---- the daemon -------------------------------------------------------------------------------------------------- */

static int listen_at(daemon_state *of) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/control", of->pipes);
  if (length < 0 || (size_t)length >= sizeof address.sun_path) return simctl_fail("%.60s...: path too long", of->pipes);
  unlink(address.sun_path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 64) != 0 ||
      chmod(address.sun_path, 0666) != 0)
    return simctl_fail("%s: %s", address.sun_path, strerror(errno));
  of->connections[0] = (struct pollfd){.fd = fd, .events = POLLIN};
  of->count = 1;
  return SIMCTL_OK;
}

/* One daemon for a pipe directory: the lock goes with the process. */
static int claim_pipes(const char *pipes) {
  char path[PATH_MAX];
  char pid[32];
  int failed = path_join(path, pipes, "control_lock");
  if (failed) return failed;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return simctl_fail("%s: %s", path, strerror(errno));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) return simctl_fail("An instance of this daemon is already running");
  snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
  return write_text(pipes, "nvidia-cuda-mps-control.pid", pid);
}

static void take_in(daemon_state *of) {
  int fd = accept4(of->connections[0].fd, NULL, NULL, SOCK_CLOEXEC);
  if (fd < 0) return;
  if (of->count == MOST_CONNECTIONS) {
    close(fd);
    return;
  }
  of->connections[of->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void run(daemon_state *of) {
  sigset_t blocked, open;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  sigprocmask(SIG_BLOCK, &blocked, &open);
  signal(SIGTERM, end);
  signal(SIGINT, end);
  while (!told_to_end && !of->quit) {
    if (ppoll(of->connections, of->count, NULL, &open) < 0) continue;
    for (nfds_t i = of->count; i-- > 1;) {
      if (of->connections[i].revents == 0 || serve(of, of->connections[i].fd)) continue;
      close(of->connections[i].fd);
      of->connections[i] = of->connections[--of->count];
    }
    if (of->connections[0].revents != 0) take_in(of);
  }
}

static int foreground(const char *root) {
  static daemon_state state;
  const char *logs = getenv("CUDA_MPS_LOG_DIRECTORY");
  char path[PATH_MAX];
  state.root = root;
  state.pipes = getenv("CUDA_MPS_PIPE_DIRECTORY");
  state.defaults.percent = 100;
  if (state.pipes == NULL) state.pipes = MPS_PIPE_DIRECTORY;
  int failed = make_folders(state.pipes);
  if (!failed) failed = claim_pipes(state.pipes);
  if (!failed && logs != NULL && path_join(path, logs, "control.log") == SIMCTL_OK) state.log = fopen(path, "ae");
  if (!failed) failed = find_cards(&state);
  if (!failed) failed = set_cards(&state, 1);
  if (!failed) failed = listen_at(&state);
  if (failed) return failed;
  say(&state, "Starting control daemon using socket %s/control", state.pipes);
  run(&state);
  say(&state, "Exit");
  if (path_join(path, state.pipes, "control") == SIMCTL_OK) unlink(path);
  return set_cards(&state, 0);
}

/* ---- the control program ----------------------------------------------------------------------------------------- */

static int talk(void) {
  char line[MPS_LONGEST - 1];
  char answer[MPS_LONGEST];
  int fd = mps_connect();
  if (fd < 0) return simctl_fail("Cannot find MPS control daemon process");
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (*line == '\0') continue;
    if (mps_ask(fd, line, answer) < 1) return simctl_fail("the MPS control daemon has ended");
    fputs(answer + 1, stdout);
  }
  return SIMCTL_OK;
}

int mps_control(const char *root, int argc, char **argv) {
  if (argc == 1) return talk();
  bool known = true;
  for (int i = 2; i < argc; i++) known = known && strcmp(argv[i], "-M") == 0;
  if (strcmp(argv[1], "-f") == 0 && known) return foreground(root);
  fputs("usage: nvidia-cuda-mps-control [-f [-M]]\n", stderr);
  return SIMCTL_FAILED;
}
