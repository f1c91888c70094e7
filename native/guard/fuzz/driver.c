/* A small coverage-guided fuzzer for compilers that bring none: mutates inputs, keeps those that reach new code.
 *
 * usage: TARGET SECONDS SEED [INPUT...].  The code under test is compiled with -fsanitize-coverage=trace-pc.  The same seed makes
 * the same inputs.  Prints how many inputs ran and how many places they reached; an input that fails is left in the file
 * `crash-SEED` of the working directory, and runs alone when it is given as INPUT with 0 seconds. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

enum { LONGEST = 4096, KEPT = 4096, PLACES = 1 << 16 };

void __sanitizer_cov_trace_pc(void);

struct input {
  uint32_t size;
  uint8_t bytes[LONGEST];
};

static struct input *corpus[KEPT];
static uint32_t kept;
static struct input current;
static uint8_t places[PLACES];
static uint32_t reached, reached_before;
static uint64_t state;
static char crash_file[64];

__attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc(void) {
  uintptr_t at = (uintptr_t)__builtin_return_address(0);
  uint8_t *place = &places[(at ^ at >> 16) % PLACES];
  if (*place == 0) reached++;
  *place = 1;
}

static uint32_t next(uint32_t below) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32) % below;
}

static void on_failure(int signal_number) {
  FILE *file = fopen(crash_file, "wb");
  if (file != NULL) {
    (void)fwrite(current.bytes, 1, current.size, file);
    (void)fclose(file);
  }
  (void)signal(signal_number, SIG_DFL);
  (void)raise(signal_number);
}

static void keep(const struct input *input) {
  struct input *copy = kept < KEPT ? malloc(sizeof *copy) : corpus[next(KEPT)];
  if (copy == NULL) return;
  *copy = *input;
  if (kept < KEPT) corpus[kept++] = copy;
}

static void run_current(void) {
  reached_before = reached;
  (void)LLVMFuzzerTestOneInput(current.bytes, current.size);
  if (reached > reached_before) keep(&current);
}

/* One change of the kinds that parsers trip over. */
static void mutate(struct input *input) {
  static const uint64_t edges[] = {0,   1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff,
                                   4096};
  uint32_t at = input->size > 0 ? next(input->size) : 0, room = input->size - at;
  const struct input *other = corpus[next(kept)];
  switch (next(6)) {
    case 0: input->bytes[at] ^= (uint8_t)(1u << next(8)); break;
    case 1: input->bytes[at] = (uint8_t)next(256); break;
    case 2: memcpy(input->bytes + at, &edges[next(9)], room < 8 ? room : 8); break;
    case 3: input->size = 1 + next(LONGEST); break;
    case 4: memset(input->bytes + at, (int)next(256), next(room + 1)); break;
    default: memcpy(input->bytes + at, other->bytes + at, next(room + 1));
  }
}

static void load(const char *name) {
  FILE *file = fopen(name, "rb");
  if (file == NULL) return;
  current.size = (uint32_t)fread(current.bytes, 1, LONGEST, file);
  (void)fclose(file);
  keep(&current);
  run_current();
}

static double now(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
  unsigned long long runs = 0;
  if (count < 3) return 2;
  double end = now() + atof(arguments[1]);
  state = strtoull(arguments[2], NULL, 0) * 2654435761u + 1;
  (void)snprintf(crash_file, sizeof crash_file, "crash-%.20s", arguments[2]);
  (void)signal(SIGABRT, on_failure);
  (void)signal(SIGSEGV, on_failure);
  current.size = 256;
  keep(&current);
  for (int i = 3; i < count; i++) load(arguments[i]);
  for (; now() < end; runs++) {
    current = *corpus[next(kept)];
    for (uint32_t changes = 1 + next(8); changes > 0; changes--) mutate(&current);
    run_current();
  }
  printf("%llu inputs, %u places\n", runs, reached);
  return 0;
}
