/* Shares with isolation MPS: a process becomes the client of its card's control daemon, with the share's part of the card, or fails.
 *
 * The driver reads what a client is to have from the environment, which is the tenant's; so it is put there, from the limits file,
 * right before the driver is initialised.  Without a daemon the driver would run the process beside the others, with
 * all of the card: then the process is told what a client is told that cannot connect.
 */
#include <stdlib.h>

#include "driver.h"
#include "gate.h"
#include "prim.h"
#include "share.h"

enum { DECIMAL_SIZE = 24, MEBIBYTE_SHIFT = 20 };

/* Writes prefix, number and suffix; `out` has room for them. */
static void put_number(char *out, const char *prefix, uint64_t number, char suffix) {
  char digits[DECIMAL_SIZE];
  unsigned count = 0;
  do digits[count++] = (char)('0' + number % 10);
  while ((number /= 10) != 0);
  while (*prefix != '\0') *out++ = *prefix++;
  while (count != 0) *out++ = digits[--count];
  *out++ = suffix;
  *out = '\0';
}

static bool serves(const char *alive) {
  PRIM_AUTOCLOSE int fd = prim_open(alive, false);
  return fd >= 0 && prim_byte_held(fd, 0) == 1;
}

static bool prepare_client(const struct share_mps *client) {
  char percent[2 * DECIMAL_SIZE], memory[2 * DECIMAL_SIZE];
  put_number(percent, "", client->percent, '\0');
  put_number(memory, "0=", (client->memory_bytes + (1u << MEBIBYTE_SHIFT) - 1) >> MEBIBYTE_SHIFT, 'M');
  bool told = setenv("CUDA_MPS_PIPE_DIRECTORY", client->pipes, 1) == 0 &&
              setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", percent, 1) == 0;
  return told && (client->memory_bytes == 0 || setenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", memory, 1) == 0);
}

GUARD_EXPORT CUresult cuInit(unsigned int flags) {
  BEGIN_HOOK(cuInit, CUDA_ERROR_NOT_INITIALIZED);
  struct share_mps client;
  if (limited && share_mps(&client) && !(serves(client.alive) && prepare_client(&client)))
    return CUDA_ERROR_MPS_CONNECTION_FAILED;
  return real(flags);
}
