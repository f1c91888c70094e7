/* The usage file, which belongs to the tenant: any content when it is opened, any content while it is used.
 *
 * The first half of the input is what the file holds; the rest is a script of calls and of scribbling over the file.  Whatever
 * the file says, what this process holds stays its own truth. */
#include "usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "credit.h"
#include "fuzz.h"
#include "prim.h"

enum { STEP = 8, LARGEST = 1 << 20, FEW = 4 };

static char path[64];
static bool with_credits; /* what this process holds is then part charge, part credit, as the file lets it */

static void remove_file(void) { (void)unlink(path); }

static void make_file(const uint8_t *data, size_t size) {
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FUZZ_CHECK(fd >= 0 && ftruncate(fd, with_credits ? HAMI_USAGE_FILE_SIZE : HAMI_USAGE_SIZE) == 0);
  FUZZ_CHECK(pwrite(fd, data, size < HAMI_USAGE_SIZE ? size : HAMI_USAGE_SIZE, 0) >= 0);
  if (size > 0 &&
      (data[size - 1] & 1) != 0) { /* as if a process had made it, so that its content is taken for what it says */
    hami_usage_header header = {.abi_version = with_credits ? HAMI_USAGE_ABI_VERSION : 1};
    memcpy(header.magic, HAMI_USAGE_MAGIC, sizeof header.magic);
    FUZZ_CHECK(pwrite(fd, &header, offsetof(hami_usage_header, abi_version) + sizeof header.abi_version, 0) > 0);
  }
  (void)close(fd);
}

static size_t file_size(void) { return with_credits ? HAMI_USAGE_FILE_SIZE : HAMI_USAGE_SIZE; }

static uint32_t number(const uint8_t *step) {
  uint32_t value;
  memcpy(&value, step + 1, sizeof value);
  return value;
}

/* One step of the script; held is the model. */
static void act(guard_usage *usage, const uint8_t *step, uint64_t held[USAGE_KINDS]) {
  enum usage_kind kind = step[6] & 1 ? USAGE_MANAGED : USAGE_DEVICE;
  uint64_t bytes = number(step) % LARGEST, limit = step[5] == 0 ? 0 : (uint64_t)step[5] << 12, seen[USAGE_KINDS];
  struct usage_process processes[FEW];
  credit_key key = {.words = {step[6] % FEW, 1}};
  switch (step[0] % (with_credits ? 11 : 8)) {
    case 0:
      if (usage_reserve(usage, kind, bytes, limit, NULL) != 0) break;
      held[kind] += bytes;
      FUZZ_CHECK(limit == 0 || bytes == 0 || held[kind] <= limit);
      break;
    case 1:
      usage_release(usage, kind, bytes);
      held[kind] = bytes < held[kind] ? held[kind] - bytes : 0;
      break;
    case 2:
      usage_force(usage, bytes);
      held[USAGE_DEVICE] += bytes;
      break;
    case 3:
      if (usage_view(usage, seen, NULL) == 0) FUZZ_CHECK(seen[kind] >= held[kind]);
      break;
    case 4: usage_count_refusal(usage); break;
    case 5: FUZZ_CHECK(usage_processes(usage, processes, FEW) <= (int)HAMI_USAGE_SLOTS); break;
    case 6: usage_note_overhead(usage, bytes); break;
    case 7: /* somebody else scribbles */
      if (usage->shared != NULL) memset((char *)usage->shared + bytes % (file_size() - 16), step[6], step[7] % 16);
      break;
    case 8: (void)credit_make(usage, step[7] & 1 ? CREDIT_EXPORT : CREDIT_IMPORT, &key, bytes % FEW); break;
    case 9: (void)credit_hold(usage, &key, 0); break;
    default: credit_drop(usage, (int)(bytes % FEW));
  }
  if (with_credits) memcpy(held, usage->held, sizeof usage->held);
  FUZZ_CHECK(memcmp(usage->held, held, sizeof usage->held) == 0);
  FUZZ_CHECK(usage->slot >= USAGE_NO_SLOT && usage->slot < (int)HAMI_USAGE_SLOTS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  guard_usage usage;
  uint64_t held[USAGE_KINDS] = {0};
  if (path[0] == '\0') {
    (void)snprintf(path, sizeof path, "/dev/shm/hami-fuzz-%ld", (long)getpid());
    (void)atexit(remove_file);
  }
  with_credits = size > 0 && (data[0] & 1) != 0;
  make_file(data, size / 2);
  usage_init(&usage, path);
  for (size_t at = size / 2; at + STEP <= size; at += STEP) act(&usage, data + at, held);
  for (int i = 0; usage.credits != NULL && i < (int)HAMI_USAGE_CREDITS; i++)
    while (usage.credits[i].references != 0) credit_drop(&usage, i);
  prim_unmap(usage.credits, HAMI_USAGE_CREDITS * sizeof *usage.credits);
  usage.credits = NULL;
  usage_release(&usage, USAGE_DEVICE, UINT64_MAX);
  FUZZ_CHECK(usage.held[USAGE_DEVICE] == 0);
  if (usage.shared != NULL) prim_unmap(usage.shared, file_size());
  if (usage.shared != NULL) prim_close(usage.fd);
  return 0;
}
