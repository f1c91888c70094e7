#include "share.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "limits.h"
#include "lock.h"
#include "prim.h"
#include "usage.h"

enum { NAME_SIZE = 161, PATH_SIZE = USAGE_PATH_SIZE };

struct share {
  const hami_limits *page;
  uint32_t sequence;    /* of the page when limit_bytes was taken */
  uint64_t limit_bytes; /* 0: none */
  guard_lock refresh_lock;
  char name[NAME_SIZE];
  char uuid[SHARE_UUID_TEXT];
  guard_usage usage;
};

static struct share shares[SHARE_MAX];
static atomic_uint valid_count; /* entries below are complete and never change place */
static atomic_bool any_broken;
static guard_lock scan_lock;

static int path_of(char out[PATH_SIZE], const char *name, const char *file) {
  size_t root = sizeof GUARD_SHARE_ROOT - 1, middle = strlen(name), last = strlen(file);
  if (root + middle + last + 3 > PATH_SIZE) return -ENAMETOOLONG;
  memcpy(out, GUARD_SHARE_ROOT "/", root + 1);
  memcpy(out + root + 1, name, middle);
  out[root + 1 + middle] = '/';
  memcpy(out + root + middle + 2, file, last + 1);
  return 0;
}

static bool is_known(const char *name) {
  for (unsigned i = 0; i < atomic_load(&valid_count); i++) {
    if (strcmp(shares[i].name, name) == 0) return true;
  }
  return false;
}

/* Fills the next free entry from a share's directory. */
static int load(const char *name, struct share *out) {
  char path[PATH_SIZE];
  guard_limits limits;
  const hami_limits *page = NULL;
  if (strlen(name) >= NAME_SIZE || path_of(path, name, "limits") < 0) return -ENAMETOOLONG;
  int result = limits_map(path, &page, NULL);
  if (result < 0) return result;
  result = limits_read(page, &limits, NULL);
  if (result == 0) result = path_of(path, name, "usage");
  if (result < 0) {
    prim_unmap((void *)(uintptr_t)page, HAMI_LIMITS_SIZE);
    return result;
  }
  memset(out, 0, sizeof *out);
  out->page = page;
  out->sequence = limits.sequence;
  out->limit_bytes = limits.memory_limit_bytes;
  memcpy(out->name, name, strlen(name) + 1);
  memcpy(out->uuid, limits.device_uuid, sizeof out->uuid);
  usage_init(&out->usage, path);
  return 0;
}

static int visit(const char *name, void *context) {
  bool *broken = context;
  unsigned count = atomic_load(&valid_count);
  if (name[0] == '.' || is_known(name)) return 0;
  if (count == SHARE_MAX || load(name, &shares[count]) < 0) {
    *broken = true;
  } else {
    atomic_store_explicit(&valid_count, count + 1, memory_order_release);
  }
  return 0;
}

static void scan(void) {
  bool broken = false;
  int result = prim_each_directory(GUARD_SHARE_ROOT, visit, &broken);
  if (result < 0 && result != -ENOENT && result != -ENOTDIR) broken = true;
  atomic_store(&any_broken, broken);
}

void share_reset(void) {
  scan_lock.word = 0;
  for (unsigned i = 0; i < atomic_load(&valid_count); i++) {
    shares[i].refresh_lock.word = 0;
    usage_forget(&shares[i].usage);
  }
  scan();
}

unsigned share_count(void) { return atomic_load_explicit(&valid_count, memory_order_acquire); }

bool share_is_any_broken(void) { return atomic_load_explicit(&any_broken, memory_order_relaxed); }

void share_heal(void) {
  GUARD_HOLD(&scan_lock);
  scan();
}

/* The part of a UUID that all spellings share. */
static const char *after_prefix(const char *uuid) {
  return strncmp(uuid, "GPU-", 4) == 0 || strncmp(uuid, "MIG-", 4) == 0 ? uuid + 4 : uuid;
}

share_set share_of_uuid(const char *uuid) {
  share_set found = 0;
  for (unsigned i = 0; i < share_count(); i++) {
    if (strcmp(after_prefix(shares[i].uuid), after_prefix(uuid)) == 0) found |= (share_set)1 << i;
  }
  return found;
}

/* The limit in force.  A page that changed is read anew; while its writer is at work, or wrote nonsense, the last one holds. */
static uint64_t limit_of(struct share *share) {
  uint32_t sequence = __atomic_load_n(&share->page->sequence, __ATOMIC_ACQUIRE);
  if (__builtin_expect(sequence != __atomic_load_n(&share->sequence, __ATOMIC_ACQUIRE), 0) && (sequence & 1u) == 0) {
    GUARD_HOLD(&share->refresh_lock);
    guard_limits limits;
    if (limits_read(share->page, &limits, NULL) == 0) {
      __atomic_store_n(&share->limit_bytes, limits.memory_limit_bytes, __ATOMIC_RELAXED);
      __atomic_store_n(&share->sequence, limits.sequence, __ATOMIC_RELEASE);
    }
  }
  return __atomic_load_n(&share->limit_bytes, __ATOMIC_RELAXED);
}

int share_reserve(share_set set, uint64_t bytes) {
  int result = -ENOENT;
  for (; set != 0; set &= set - 1) {
    int index = __builtin_ctzll(set);
    uint64_t limit = limit_of(&shares[index]);
    int tried = usage_reserve(&shares[index].usage, bytes, limit, NULL);
    if (tried == 0) return index;
    result = tried;
  }
  return result;
}

void share_force(unsigned share, uint64_t bytes) { usage_force(&shares[share].usage, bytes); }

void share_count_refusal(share_set set) {
  if (set != 0) usage_count_refusal(&shares[__builtin_ctzll(set)].usage);
}

void share_release(unsigned share, uint64_t bytes) { usage_release(&shares[share].usage, bytes); }

void share_look(share_set set, struct share_view *out) {
  memset(out, 0, sizeof *out);
  out->limited = true;
  for (; set != 0; set &= set - 1) {
    struct share *share = &shares[__builtin_ctzll(set)];
    uint64_t limit = limit_of(share), used = 0;
    bool known = usage_view(&share->usage, &used, NULL) == 0;
    if (limit == 0) out->limited = false;
    out->limit_bytes = usage_add(out->limit_bytes, limit);
    out->used_bytes = usage_add(out->used_bytes, known ? used : limit);
    out->free_bytes = usage_add(out->free_bytes, known ? usage_sub(limit, used) : 0);
  }
}
