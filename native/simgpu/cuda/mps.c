#include "mps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "mps_pipe.h"

/* Whole multiprocessors in thousandths of the card would be closer to life; percents are what can be asked for. */
#define PER_PERCENT (SIM_FULL_OCCUPANCY / 100u)

static int daemon_fd = -1;
static bool ended;
static unsigned percent = 100;
static uint64_t memory_bytes; /* 0: no limit */

/* A client's own wish counts where it is the smaller one. */
static void take_wishes(void) {
  const char *threads = getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
  const char *memory = getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
  double wish = threads != NULL ? strtod(threads, NULL) : 0;
  uint64_t bytes = memory != NULL ? mps_memory_of(memory) : 0;
  if (wish >= 1 && wish < percent) percent = (unsigned)wish;
  if (bytes > 0 && (memory_bytes == 0 || bytes < memory_bytes)) memory_bytes = bytes;
}

CUresult mps_join(void) {
  char answer[MPS_LONGEST];
  unsigned long long bytes = 0;
  int fd = mps_connect();
  if (fd < 0) return CUDA_SUCCESS;
  if (mps_ask(fd, MPS_JOIN, answer) < 0 || sscanf(answer, MPS_WELCOME, &percent, &bytes) != 2) {
    close(fd);
    return CUDA_ERROR_MPS_CONNECTION_FAILED;
  }
  memory_bytes = bytes;
  take_wishes();
  daemon_fd = fd;
  return CUDA_SUCCESS;
}

CUresult mps_sound(void) {
  char byte;
  if (__builtin_expect(daemon_fd < 0, 1)) return CUDA_SUCCESS;
  if (!__atomic_load_n(&ended, __ATOMIC_RELAXED)) {
    ssize_t got = recv(daemon_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) return CUDA_SUCCESS;
    __atomic_store_n(&ended, true, __ATOMIC_RELAXED);
  }
  return CUDA_ERROR_MPS_RPC_FAILURE;
}

uint64_t mps_most_bytes(void) { return memory_bytes; }

void mps_confine(uint32_t *occupancy, uint64_t *duration_ns) {
  uint32_t most = percent * PER_PERCENT;
  if (*occupancy <= most || most == 0) return;
  *duration_ns = *duration_ns / most * *occupancy + *duration_ns % most * *occupancy / most;
  *occupancy = most;
}
