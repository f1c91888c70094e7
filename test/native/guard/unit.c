/* The guard's core in one process, for the sanitizers: parsing of limits, the ledger against a plain model, the usage file under
 * nonsense, forks and threads.
 *
 * usage: unit limits SEED | ledger SEED | usage FILE SEED | fork FILE | processes FILE SEED |
 * threads FILE.  Status 0 when all holds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ledger.h"
#include "limits.h"
#include "usage.h"

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

/* ---- limits ---- */

static hami_limits good_page(void) {
  hami_limits page = {
      .abi_version = HAMI_ABI_VERSION, .memory_limit_bytes = 1234, .device_uuid = "GPU-1", .share = "s"};
  memcpy(page.magic, HAMI_LIMITS_MAGIC, sizeof page.magic);
  page.checksum = limits_checksum(&page);
  return page;
}

static void test_limits(void) {
  guard_limits limits;
  guard_error error = {0};
  hami_limits page = good_page();
  CHECK(limits_read(&page, &limits, &error) == 0 && limits.memory_limit_bytes == 1234 &&
        strcmp(limits.device_uuid, "GPU-1") == 0);
  for (int i = 0; i < 3000; i++) { /* one flipped bit anywhere but in the sequence is noticed */
    hami_limits broken = page;
    size_t at = next() % sizeof broken;
    ((unsigned char *)&broken)[at] ^= (unsigned char)(1u << next() % 8);
    bool in_sequence = at >= offsetof(hami_limits, sequence) && at < offsetof(hami_limits, checksum);
    CHECK((limits_parse(&broken, &limits, &error) == 0) == in_sequence);
  }
  page.sequence = 7;
  CHECK(limits_read(&page, &limits, &error) < 0);
  page = good_page();
  memset(page.device_uuid, 'x', sizeof page.device_uuid);
  page.checksum = limits_checksum(&page);
  CHECK(limits_read(&page, &limits, &error) < 0 && error.what != NULL);
  for (int i = 0; i < 200; i++) {
    for (size_t at = 0; at < sizeof page; at++) ((unsigned char *)&page)[at] = (unsigned char)next();
    CHECK(limits_parse(&page, &limits, NULL) < 0);
  }
}

/* ---- ledger ---- */

enum { KEYS = 3000 };

static void test_ledger(void) {
  static ledger_entry model[KEYS];
  ledger_entry found, old;
  for (int i = 0; i < 200000; i++) {
    uint64_t key = next() % KEYS;
    ledger_entry *expected = &model[key];
    ledger_entry fresh = {
        .key = key, .bytes = next(), .owner = next() % 7 + 1, .references = 1, .kind = LEDGER_POINTER};
    switch (next() % 4) {
      case 0:
      case 1:
        CHECK(ledger_put(&fresh, &old) && old.kind == expected->kind && old.bytes == expected->bytes);
        *expected = fresh;
        break;
      case 2:
        CHECK(ledger_take(LEDGER_POINTER, key, &found) == (expected->kind != LEDGER_NONE));
        CHECK(expected->kind == LEDGER_NONE || found.bytes == expected->bytes);
        memset(expected, 0, sizeof *expected);
        break;
      default:
        CHECK(ledger_get(LEDGER_POINTER, key, &found) == (expected->kind != LEDGER_NONE));
        CHECK(!ledger_get(LEDGER_HANDLE, key, &found));
    }
  }
  int owned = 0, taken = 0;
  for (int key = 0; key < KEYS; key++) owned += model[key].kind != LEDGER_NONE && model[key].owner == 3;
  ledger_entry handle = {.key = 1, .bytes = 5, .share = 1, .kind = LEDGER_HANDLE}, more = {.bytes = 7, .share = 2};
  CHECK(ledger_put(&handle, &old) && old.kind == LEDGER_NONE);
  ledger_raise(LEDGER_HANDLE, 1, &more);
  CHECK(more.bytes == 5 && more.share == 1);
  ledger_raise(LEDGER_HANDLE, 1, &more); /* less than it has */
  CHECK(more.bytes == 5 && ledger_take(LEDGER_HANDLE, 1, &found) && found.bytes == 7 && found.share == 2);
  while (ledger_take_owned(LEDGER_POINTER, 3, &found)) taken++;
  CHECK(owned == taken && owned > 0);
  while (ledger_take_between(LEDGER_POINTER, 0, KEYS / 2, &found)) CHECK(found.key < KEYS / 2);
  for (uint64_t key = 0; key < KEYS; key++) {
    CHECK(ledger_get(LEDGER_POINTER, key, &found) ==
          (model[key].kind != LEDGER_NONE && model[key].owner != 3 && key >= KEYS / 2));
  }
  ledger_reset();
  CHECK(!ledger_take_between(LEDGER_POINTER, 0, UINT64_MAX, &found));
}

/* An estate whose every address is another's before it is settled: nothing of it is given up, and nothing of the other's. */
static void test_estate(void) {
  ledger_entry old, found;
  uint64_t estate = 7 | LEDGER_ESTATE, sum = 0;
  for (uint64_t key = 1; key <= KEYS; key++) {
    ledger_entry first = {.key = key, .bytes = key, .owner = 3, .references = 1, .kind = LEDGER_POINTER};
    CHECK(ledger_put(&first, &old) && old.kind == LEDGER_NONE);
  }
  ledger_bequeath(3, estate);
  for (uint64_t key = 1; key <= KEYS; key++) {
    ledger_entry second = {.key = key, .bytes = 1, .owner = 4, .references = 1, .kind = LEDGER_POINTER};
    CHECK(ledger_put(&second, &old) && old.kind == LEDGER_NONE);
  }
  while (ledger_take_owned(LEDGER_POINTER, estate, &found)) sum += found.bytes;
  CHECK(sum == (uint64_t)KEYS * (KEYS + 1) / 2);
  for (uint64_t key = 1; key <= KEYS; key++) {
    CHECK(ledger_take(LEDGER_POINTER, key, &found) && found.bytes == 1 && found.owner == 4);
  }
  CHECK(!ledger_take_between(LEDGER_POINTER, 0, UINT64_MAX, &found));
}

/* ---- usage ---- */

static hami_usage *map_file(const char *path) {
  FILE *file = fopen(path, "r+");
  CHECK(file != NULL);
  hami_usage *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
  CHECK(shared != MAP_FAILED);
  return shared; /* the stream stays open: closing it would drop this process's record locks, as in any program */
}

static void test_usage(const char *path) {
  hami_usage *shared = map_file(path);
  guard_usage usage;
  guard_error error = {0};
  uint64_t seen[USAGE_KINDS];
  usage_init(&usage, path);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 600, 1000, &error) == 0);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 401, 1000, &error) < 0 && error.code == 12);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, UINT64_MAX, 1000, &error) < 0);
  CHECK(usage_view(&usage, seen, &error) == 0 && seen[0] == 600);
  for (int i = 0; i < 300; i++) { /* nonsense everywhere */
    for (int j = 0; j < 50; j++) {
      size_t at = next() % sizeof *shared;
      ((unsigned char *)shared)[at] = (unsigned char)next();
    }
    (void)usage_reserve(&usage, USAGE_DEVICE, next() % 100, 1000, &error);
    (void)usage_view(&usage, seen, &error);
    usage_release(&usage, USAGE_DEVICE, next() % 100);
    shared->header.used_bytes = next();
  }
  usage_release(&usage, USAGE_DEVICE, UINT64_MAX);
  CHECK(usage.held[0] == 0);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 1000, 1000, &error) == 0);
}

static void test_fork(const char *path) {
  hami_usage *shared = map_file(path);
  guard_usage usage;
  uint64_t seen[USAGE_KINDS];
  usage_init(&usage, path);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 100, 1000, NULL) == 0);
  for (int round = 0; round < 50; round++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      usage_forget(&usage);
      bool fine = usage_reserve(&usage, USAGE_DEVICE, 901, 1000, NULL) < 0 &&
                  usage_reserve(&usage, USAGE_DEVICE, 900, 1000, NULL) == 0;
      if (round % 3 == 1) { /* it dies while it charges more, before the counter knows */
        shared->slots[usage.slot].moving_bytes = 50;
        shared->slots[usage.slot].used_bytes = 950;
      }
      if (round % 3 == 2) { /* it dies while it gives back, after the counter knows, in the midst of a recount */
        shared->slots[usage.slot].moving_bytes = 900;
        shared->header.used_bytes -= 900;
        shared->header.recounts |= 1;
      }
      _exit(fine ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(usage_view(&usage, seen, NULL) == 0 && seen[0] == 100);
  }
  usage_release(&usage, USAGE_DEVICE, 100);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 1000, 1000, NULL) == 0);
  CHECK(shared->header.used_bytes == 1000 && shared->header.deaths_total > 0);
}

/* ---- processes that never wait for each other ---- */

enum { PROCESSES = 8, CHANGES = 3000, SHARED_LIMIT = 1000 };

/* What the processes say they hold never passes the limit; they are refused often, so recounts are under way all the time. */
static void change_at_random(guard_usage *usage, int64_t *truth, uint64_t seed) {
  uint64_t held[4] = {0};
  usage_forget(usage);
  state += seed * 0x9E3779B97F4A7C15u;
  for (int i = 0; i < CHANGES; i++) {
    uint64_t *piece = &held[next() % 4], bytes = next() % 300 + 1;
    if (*piece != 0) {
      __atomic_fetch_sub(truth, (int64_t)*piece, __ATOMIC_SEQ_CST);
      usage_release(usage, USAGE_DEVICE, *piece);
      *piece = 0;
    } else if (usage_reserve(usage, USAGE_DEVICE, bytes, SHARED_LIMIT, NULL) == 0) {
      *piece = bytes;
      CHECK(__atomic_add_fetch(truth, (int64_t)bytes, __ATOMIC_SEQ_CST) <= SHARED_LIMIT);
    }
  }
  for (int i = 0; i < 4; i++) {
    __atomic_fetch_sub(truth, (int64_t)held[i], __ATOMIC_SEQ_CST);
    usage_release(usage, USAGE_DEVICE, held[i]);
  }
}

static void test_processes(const char *path) {
  hami_usage *shared = map_file(path);
  int64_t *truth = mmap(NULL, sizeof *truth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  guard_usage usage;
  pid_t children[PROCESSES];
  usage_init(&usage, path);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 1, SHARED_LIMIT, NULL) == 0);
  usage_release(&usage, USAGE_DEVICE, 1);
  for (int i = 0; i < PROCESSES; i++) {
    children[i] = fork();
    if (children[i] == 0) {
      change_at_random(&usage, truth, (uint64_t)i + 1);
      _exit(0);
    }
  }
  for (int i = 0; i < PROCESSES; i++) {
    int status;
    CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
  }
  CHECK(*truth == 0);
  CHECK(shared->header.used_bytes == 0);
  CHECK(shared->header.peak_bytes <= SHARED_LIMIT);
}

enum { THREADS = 8, ROUNDS = 4000 };
static guard_usage common;

static void *allocate_and_free(void *argument) {
  uint64_t key = (uint64_t)(uintptr_t)argument << 32;
  ledger_entry found, old;
  for (int i = 0; i < ROUNDS; i++) {
    if (usage_reserve(&common, USAGE_DEVICE, 100, 350, NULL) != 0) continue;
    ledger_entry entry = {.key = key + (uint64_t)i % 64, .bytes = 100, .kind = LEDGER_POINTER};
    CHECK(ledger_put(&entry, &old) && old.kind == LEDGER_NONE);
    CHECK(ledger_take(LEDGER_POINTER, entry.key, &found) && found.bytes == 100);
    usage_release(&common, USAGE_DEVICE, found.bytes);
  }
  return NULL;
}

static void test_threads(const char *path) {
  pthread_t threads[THREADS];
  uint64_t seen[USAGE_KINDS];
  usage_init(&common, path);
  for (uintptr_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, allocate_and_free, (void *)(i + 1)) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(usage_view(&common, seen, NULL) == 0 && seen[0] == 0 && common.held[0] == 0);
  CHECK(common.shared->header.peak_bytes <= 350);
}

int main(int count, char **arguments) {
  CHECK(count >= 3);
  if (count > 3) state += strtoull(arguments[3], NULL, 10) * 0x9E3779B97F4A7C15u;
  if (strcmp(arguments[1], "limits") == 0) test_limits();
  if (strcmp(arguments[1], "ledger") == 0) test_ledger();
  if (strcmp(arguments[1], "estate") == 0) test_estate();
  if (strcmp(arguments[1], "usage") == 0) test_usage(arguments[2]);
  if (strcmp(arguments[1], "fork") == 0) test_fork(arguments[2]);
  if (strcmp(arguments[1], "processes") == 0) test_processes(arguments[2]);
  if (strcmp(arguments[1], "threads") == 0) test_threads(arguments[2]);
  return 0;
}
