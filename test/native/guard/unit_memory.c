/* Accounts over a pretended share and a pretended driver, for the sanitizers.
 *
 * usage: unit_memory account SEED | threads SEED.  Status 0 when all holds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "share.h"

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

enum { LIMIT = 10000, SHARES = 2, CHUNK = 64, THREADS = 8, ROUNDS = 4000 };

/* ---- a share is a counter ---- */

static uint64_t used[SHARES];

int share_reserve(share_set shares, uint64_t bytes) {
  for (int i = 0; i < SHARES; i++) {
    uint64_t now = __atomic_load_n(&used[i], __ATOMIC_RELAXED);
    while ((shares >> i & 1) != 0 && bytes <= LIMIT && now <= LIMIT - bytes) {
      if (!__atomic_compare_exchange_n(&used[i], &now, now + bytes, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
      return i;
    }
  }
  return -12;
}

void share_force(unsigned share, uint64_t bytes) { __atomic_fetch_add(&used[share], bytes, __ATOMIC_RELAXED); }
void share_release(unsigned share, uint64_t bytes) {
  CHECK(__atomic_fetch_sub(&used[share], bytes, __ATOMIC_RELAXED) >= bytes);
}

/* ---- a driver's pool grows by chunks, and shrinks when it likes ---- */

static uint64_t driver_used, driver_reserved;
static pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t driver_change(int64_t bytes) {
  pthread_mutex_lock(&driver_lock);
  driver_used += (uint64_t)bytes;
  if (driver_used > driver_reserved) driver_reserved = (driver_used + CHUNK - 1) / CHUNK * CHUNK;
  uint64_t reserved = driver_reserved;
  pthread_mutex_unlock(&driver_lock);
  return reserved;
}

static void driver_trim(void) {
  pthread_mutex_lock(&driver_lock);
  driver_reserved = (driver_used + CHUNK - 1) / CHUNK * CHUNK;
  pthread_mutex_unlock(&driver_lock);
}

static struct account account;

static bool answer(int64_t handed, uint64_t admitted) {
  uint64_t ticket = account_question(&account);
  return account_answer(&account, ticket, driver_change(0), handed, admitted);
}

static bool take(uint64_t bytes) {
  uint64_t admitted;
  if (account_begin(&account, bytes, &admitted) < 0) return false;
  (void)driver_change((int64_t)bytes);
  if (answer((int64_t)bytes, admitted)) return true;
  (void)driver_change(-(int64_t)bytes);
  driver_trim();
  (void)answer(-(int64_t)bytes, 0);
  return false;
}

static void give(uint64_t bytes) {
  (void)driver_change(-(int64_t)bytes);
  (void)answer(-(int64_t)bytes, 0);
}

static uint64_t next(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void test_account(uint64_t random) {
  enum { PIECES = 32 };
  uint64_t pieces[PIECES] = {0}, refused = 0;
  account_open(&account, 3, CHUNK);
  for (int i = 0; i < 100000; i++) {
    uint64_t *piece = &pieces[next(&random) % PIECES];
    if (*piece != 0) {
      give(*piece);
      *piece = 0;
    } else {
      uint64_t bytes = next(&random) % 1500 + 1;
      if (take(bytes)) *piece = bytes;
      refused += *piece == 0;
    }
    if (next(&random) % 16 == 0) driver_trim();
    CHECK(used[0] + used[1] == account.charged && account.charged >= driver_used);
    CHECK(account.handed == driver_used);
  }
  for (int i = 0; i < PIECES; i++) {
    if (pieces[i] != 0) give(pieces[i]);
  }
  driver_trim();
  CHECK(answer(0, 0) && refused > 0 && used[0] == 0 && used[1] == 0 && !account_has_slack(&account));
  CHECK(take(100) && account_is_used(&account));
  driver_used = driver_reserved = 0;
  (void)answer(0, 0);
  CHECK(account.charged == 100); /* the program has not freed it */
  account_clamp(&account);
  CHECK(account.charged == 0);
  account_close(&account);
}

/* An old answer that comes in after a newer one changes nothing. */
static void test_late_answers(void) {
  account_open(&account, 1, 1);
  uint64_t first = account_question(&account), second = account_question(&account);
  CHECK(account_answer(&account, second, 500, 0, 0) && used[0] == 500);
  CHECK(account_answer(&account, first, 100, 0, 0) && used[0] == 500);
  CHECK(!account_answer(&account, account_question(&account), LIMIT + 1, 0, 0) && used[0] == LIMIT + 1);
  account_close(&account);
  CHECK(used[0] == 0);
}

static void *allocate_and_free(void *argument) {
  uint64_t random = (uint64_t)(uintptr_t)argument;
  for (int i = 0; i < ROUNDS; i++) {
    uint64_t bytes = next(&random) % 3000 + 1;
    if (take(bytes)) give(bytes);
    if (next(&random) % 8 == 0) driver_trim();
  }
  return NULL;
}

static void test_threads(uint64_t seed) {
  pthread_t threads[THREADS];
  account_open(&account, 1, CHUNK);
  for (uint64_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, allocate_and_free, (void *)(uintptr_t)(seed * THREADS + i + 1)) == 0);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  driver_trim();
  CHECK(answer(0, 0) && used[0] == 0 && driver_used == 0);
}

int main(int count, char **arguments) {
  CHECK(count == 3);
  uint64_t seed = strtoull(arguments[2], NULL, 10);
  if (strcmp(arguments[1], "account") == 0) {
    test_late_answers();
    test_account(seed * 0x9E3779B97F4A7C15u + 1);
  }
  if (strcmp(arguments[1], "threads") == 0) test_threads(seed);
  return 0;
}
