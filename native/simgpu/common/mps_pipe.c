#include "mps_pipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int mps_connect(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *directory = getenv("CUDA_MPS_PIPE_DIRECTORY");
  if (directory == NULL || *directory == '\0') directory = MPS_PIPE_DIRECTORY;
  int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/control", directory);
  if (length < 0 || (size_t)length >= sizeof address.sun_path) return -1;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

int mps_ask(int fd, const char *packet, char answer[MPS_LONGEST]) {
  if (send(fd, packet, strlen(packet), MSG_NOSIGNAL) < 0) return -1;
  ssize_t got = recv(fd, answer, MPS_LONGEST - 1, 0);
  if (got <= 0) return -1;
  answer[got] = '\0';
  return (int)got;
}

uint64_t mps_size(const char *text) {
  char *end;
  unsigned long long number = strtoull(text, &end, 10);
  unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
  return text[0] < '0' || text[0] > '9' || number > UINT64_MAX >> shift ? 0 : (uint64_t)number << shift;
}

uint64_t mps_memory_of(const char *list) {
  for (const char *at = list; at != NULL; at = strchr(at, ',')) {
    if (*at == ',') at++;
    if (strncmp(at, "0=", 2) == 0) return mps_size(at + 2);
  }
  return 0;
}
