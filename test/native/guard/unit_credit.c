/* Credits in a usage file, without a driver, for the sanitizers: processes that hand memory to each other and die at any point.
 *
 * usage: unit_credit campaign FILE SEED | deaths FILE | stopped FILE | full FILE | lost FILE | stale FILE | tokens.  Status 0 when all holds. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "credit.h"
#include "prim.h"
#include "token.h"

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

enum { LIMIT = 4000, LIVES = 32, AT_ONCE = 6, CHANGES = 200, OBJECTS = 12, MOST = 500 };

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static credit_key key_of(uint64_t name) { return (credit_key){.words = {name, 7}}; }

/* ---- what the processes know to be true, never more than what they are charged for ---- */

struct object {
  uint64_t name, bytes, holders; /* a bit for each life */
};

struct truth {
  uint32_t lock;
  uint64_t last, sum, made;
  struct object objects[OBJECTS];
};

static struct truth *truth;

static void truth_take(void) {
  while (__atomic_exchange_n(&truth->lock, 1, __ATOMIC_ACQUIRE) != 0) usleep(10);
}

static void truth_leave(void) { __atomic_store_n(&truth->lock, 0, __ATOMIC_RELEASE); }

/* After the charge. */
static void now_held(struct object *object, uint64_t bit) {
  if (object->holders == 0) truth->sum += object->bytes;
  object->holders |= bit;
  CHECK(truth->sum <= LIMIT);
}

/* Before it is given back. */
static void no_longer_held(struct object *object, uint64_t bit) {
  if (object->holders == bit) truth->sum -= object->bytes;
  object->holders &= ~bit;
}

/* ---- one life ---- */

struct life {
  guard_usage *usage;
  uint64_t bit;
  int credits[OBJECTS]; /* as this process holds them */
};

static void export_one(struct life *life, int place) {
  struct object made = {.bytes = next() % MOST + 1};
  if (usage_reserve(life->usage, USAGE_DEVICE, made.bytes, LIMIT, NULL) != 0) return;
  truth_take();
  made.name = ++truth->last;
  truth_leave();
  credit_key key = key_of(made.name);
  int credit = credit_make(life->usage, CREDIT_EXPORT, &key, made.bytes);
  if (credit ==
      CREDIT_NONE) { /* on a busy machine the table's lock may be another's for long: it is charged as before */
    usage_release(life->usage, USAGE_DEVICE, made.bytes);
    return;
  }
  __atomic_fetch_add(&truth->made, 1, __ATOMIC_RELAXED);
  truth_take();
  bool mine = truth->objects[place].holders == 0;
  if (mine) truth->objects[place] = made;
  if (mine) now_held(&truth->objects[place], life->bit);
  truth_leave();
  if (!mine) credit_drop(life->usage, credit);
  if (mine) life->credits[place] = credit;
}

/* The driver would hand it out only as long as somebody holds it: so does the truth. */
static void import_one(struct life *life, int place) {
  truth_take();
  struct object seen = truth->objects[place];
  truth_leave();
  credit_key key = key_of(seen.name);
  int credit = seen.holders != 0 ? credit_hold(life->usage, &key, next() % 2 == 0 ? seen.bytes : 0) : CREDIT_NONE;
  if (credit == CREDIT_NONE) return;
  truth_take();
  bool there = truth->objects[place].name == seen.name && truth->objects[place].holders != 0;
  if (there) now_held(&truth->objects[place], life->bit);
  truth_leave();
  if (!there) credit_drop(life->usage, credit);
  if (there) life->credits[place] = credit;
}

static void let_go(struct life *life, int place) {
  truth_take();
  no_longer_held(&truth->objects[place], life->bit);
  truth_leave();
  credit_drop(life->usage, life->credits[place]);
  life->credits[place] = CREDIT_NONE;
}

static void live(guard_usage *usage, unsigned number) {
  struct life life = {.usage = usage, .bit = (uint64_t)1 << number};
  usage_forget(usage);
  state += (number + 1) * 0x9E3779B97F4A7C15u;
  for (int i = 0; i < OBJECTS; i++) life.credits[i] = CREDIT_NONE;
  for (int i = 0; i < CHANGES; i++) {
    int place = (int)(next() % OBJECTS);
    if (life.credits[place] != CREDIT_NONE) {
      let_go(&life, place);
    } else if (next() % 2 == 0) {
      import_one(&life, place);
    } else {
      export_one(&life, place);
    }
  }
  if (next() % 2 == 0) { /* in the midst of something */
    hami_usage_credit *credit = &usage->shared->credits[HAMI_USAGE_CREDITS - 1 - number];
    usage->shared->header.credits = HAMI_USAGE_CREDITS;
    *credit = (hami_usage_credit){.state = 2 + number % 2, .bytes = 100};
  }
  truth_take();
  for (int i = 0; i < OBJECTS; i++) no_longer_held(&truth->objects[i], life.bit);
  truth_leave();
}

static guard_usage usage;

static void begin(const char *path) {
  truth = mmap(NULL, sizeof *truth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  usage_init(&usage, path);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 1, LIMIT, NULL) == 0 && usage.has_credits);
  usage_release(&usage, USAGE_DEVICE, 1);
}

static void nothing_is_left(void) {
  CHECK(usage_reserve(&usage, USAGE_DEVICE, LIMIT, LIMIT, NULL) == 0);
  CHECK(usage.shared->header.used_bytes == LIMIT && usage.shared->header.peak_bytes <= LIMIT);
  for (unsigned i = 0; i < HAMI_USAGE_CREDITS; i++) CHECK(usage.shared->credits[i].state == 0);
}

static void campaign(void) {
  int alive = 0, status;
  for (unsigned number = 0; number < LIVES || alive > 0;) {
    if (number < LIVES && alive < AT_ONCE) {
      pid_t child = fork();
      CHECK(child >= 0);
      if (child == 0) {
        live(&usage, number);
        _exit(0);
      }
      number++;
      alive++;
    } else {
      CHECK(wait(&status) > 0 && status == 0);
      alive--;
    }
  }
  CHECK(truth->sum == 0 && truth->made > LIVES);
  nothing_is_left();
}

/* ---- one death at each point ---- */

static pid_t exporter_dies(void (*how)(int credit)) {
  pid_t child = fork();
  if (child == 0) {
    usage_forget(&usage);
    credit_key key = key_of(1);
    CHECK(usage_reserve(&usage, USAGE_DEVICE, 1000, LIMIT, NULL) == 0);
    int credit = credit_make(&usage, CREDIT_EXPORT, &key, 1000);
    CHECK(credit != CREDIT_NONE && usage.held[0] == 0 && usage.credited == 1000);
    if (how != NULL) how(credit);
    pause();
  }
  return child;
}

static void wait_for(uint64_t used) {
  for (int i = 0; usage.shared->header.used_bytes != used; i++) {
    CHECK(i < 20000);
    usleep(1000);
  }
}

static void kill_it(pid_t child) {
  int status;
  CHECK(kill(child, 9) == 0 && waitpid(child, &status, 0) == child);
}

static void halfway_made(int credit) {
  (void)credit;
  usage.shared->slots[usage.slot].used_bytes = 1000;
  usage.shared->credits[0].state = 2;
}

static void halfway_ended(int credit) {
  (void)credit;
  usage.shared->credits[0].state = 3;
}

static void deaths(void) {
  void (*const points[])(int) = {NULL, halfway_made, halfway_ended};
  credit_key key = key_of(1);
  for (unsigned i = 0; i < sizeof points / sizeof points[0]; i++) {
    pid_t child = exporter_dies(points[i]);
    wait_for(1000);
    kill_it(child);
    CHECK(usage_reserve(&usage, USAGE_DEVICE, LIMIT, LIMIT, NULL) == 0);
    usage_release(&usage, USAGE_DEVICE, LIMIT);
  }
  pid_t child = exporter_dies(NULL); /* and with somebody who goes on holding it */
  wait_for(1000);
  int own = credit_hold(&usage, &key, 1000);
  CHECK(own != CREDIT_NONE && credit_hold(&usage, &key, 0) == own && usage_held(&usage) == 1000);
  CHECK(credit_hold(&usage, &key, 999) == CREDIT_NONE);
  kill_it(child);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, LIMIT - 999, LIMIT, NULL) != 0);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, LIMIT - 1000, LIMIT, NULL) == 0);
  credit_drop(&usage, own);
  CHECK(usage.shared->header.used_bytes == LIMIT);
  credit_drop(&usage, own);
  CHECK(usage.shared->header.used_bytes == LIMIT - 1000);
  usage_release(&usage, USAGE_DEVICE, LIMIT);
  nothing_is_left();
}

/* Somebody who has the table's lock does not run: nothing is shared meanwhile, what is let go of stays charged, and later is not. */
static void stopped(void) {
  credit_key key = key_of(1), other = key_of(2);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 1000, LIMIT, NULL) == 0);
  int credit = credit_make(&usage, CREDIT_EXPORT, &key, 1000);
  pid_t child = fork();
  if (child == 0) {
    CHECK(prim_byte_take(usage.fd, usage_byte(HAMI_USAGE_SLOTS + 2)) == 0);
    __atomic_store_n(&truth->made, 1, __ATOMIC_SEQ_CST);
    pause();
  }
  while (__atomic_load_n(&truth->made, __ATOMIC_SEQ_CST) == 0) usleep(1000);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 500, LIMIT, NULL) == 0);
  CHECK(credit_hold(&usage, &key, 0) == CREDIT_NONE && credit_make(&usage, CREDIT_EXPORT, &other, 500) == CREDIT_NONE);
  credit_drop(&usage, credit);
  CHECK(usage.shared->header.used_bytes == 1500 && usage_held(&usage) == 1500);
  kill_it(child);
  usage_release(&usage, USAGE_DEVICE, 500);
  nothing_is_left();
}

/* ---- what there is no room for, and what is lost ---- */

static void full(void) {
  int credits[HAMI_USAGE_CREDITS];
  CHECK(usage_reserve(&usage, USAGE_DEVICE, HAMI_USAGE_CREDITS + 1, LIMIT, NULL) == 0);
  for (unsigned i = 0; i <= HAMI_USAGE_CREDITS; i++) {
    credit_key key = key_of(i + 1);
    int credit = credit_make(&usage, CREDIT_EXPORT, &key, 1);
    CHECK((credit == CREDIT_NONE) == (i == HAMI_USAGE_CREDITS));
    if (credit != CREDIT_NONE) credits[i] = credit;
    CHECK(usage.shared->header.used_bytes == HAMI_USAGE_CREDITS + 1);
  }
  for (unsigned i = 0; i < HAMI_USAGE_CREDITS; i++) credit_drop(&usage, credits[i]);
  credit_drop(&usage, credits[0]);
  credit_drop(&usage, -1);
  CHECK(usage.held[0] == 1 && usage.shared->header.used_bytes == 1);
  usage_release(&usage, USAGE_DEVICE, 1);
  nothing_is_left();
}

/* The program closes the descriptor: others take the process for dead.  What it holds is its own charge again. */
static void lost(void) {
  credit_key key = key_of(1);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 1000, LIMIT, NULL) == 0);
  int credit = credit_make(&usage, CREDIT_EXPORT, &key, 1000);
  CHECK(credit != CREDIT_NONE && close(usage.fd) == 0);
  usage.checked_ns = 0;
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 1, LIMIT, NULL) == 0);
  CHECK(usage_held(&usage) == 1001 && usage.shared->header.used_bytes == 1001);
  credit_drop(&usage, credit);
  usage_release(&usage, USAGE_DEVICE, 1);
  CHECK(usage.held[0] == 0 && usage.credited == 0);
  nothing_is_left();
}

/* The driver gives a new piece the handle of an old one that others still hold. */
static void stale(void) {
  credit_key key = key_of(1);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 300, LIMIT, NULL) == 0);
  int old = credit_make(&usage, CREDIT_EXPORT, &key, 100), fresh = credit_make(&usage, CREDIT_EXPORT, &key, 200);
  CHECK(old != CREDIT_NONE && fresh != CREDIT_NONE && old != fresh);
  CHECK(credit_hold(&usage, &key, 0) == fresh && usage.shared->header.used_bytes == 300);
  CHECK(usage_reserve(&usage, USAGE_DEVICE, 200, LIMIT, NULL) == 0);
  CHECK(credit_make(&usage, CREDIT_IMPORT, &key, 200) == fresh && usage.shared->header.used_bytes == 300);
  for (int i = 0; i < 3; i++) credit_drop(&usage, fresh);
  CHECK(usage.shared->header.used_bytes == 100);
  credit_drop(&usage, old);
  nothing_is_left();
}

/* ---- tokens ---- */

static void tokens(void) {
  struct token made, seen;
  int fd = open("/dev/null", O_RDWR), other = open("/dev/null", O_RDWR), copy = dup(fd);
  CHECK(!token_read(fd, &seen) && !token_read(-1, &seen) && !token_new(&made, 0) && !token_new(&made, UINT64_MAX));
  CHECK(token_new(&made, 384 << 20) && !token_write(-1, &made) && token_write(fd, &made));
  CHECK(token_read(fd, &seen) && seen.name == made.name && seen.bytes == made.bytes);
  CHECK(token_read(copy, &seen) && seen.name == made.name && !token_read(other, &seen));
  CHECK(close(fd) == 0 && token_read(copy, &seen) && seen.bytes == made.bytes);
  CHECK(prim_mark(other, 17, 4) == 0 && !token_read(other, &seen)); /* a lock of the program's own */
  CHECK(token_new(&made, 1) && token_write(other, &made) && token_read(other, &seen) && seen.bytes == 1);
}

int main(int count, char **arguments) {
  CHECK(count >= 2);
  if (strcmp(arguments[1], "tokens") == 0) {
    tokens();
    return 0;
  }
  CHECK(count >= 3);
  if (count > 3) state += strtoull(arguments[3], NULL, 10) * 0x9E3779B97F4A7C15u;
  begin(arguments[2]);
  if (strcmp(arguments[1], "campaign") == 0) campaign();
  if (strcmp(arguments[1], "deaths") == 0) deaths();
  if (strcmp(arguments[1], "stopped") == 0) stopped();
  if (strcmp(arguments[1], "full") == 0) full();
  if (strcmp(arguments[1], "lost") == 0) lost();
  if (strcmp(arguments[1], "stale") == 0) stale();
  return 0;
}
