#include "share.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "limits.h"
#include "lock.h"
#include "prim.h"
#include "usage.h"

enum { NAME_SIZE = 161, PATH_SIZE = USAGE_PATH_SIZE };
_Static_assert((int)SHARE_PATH_SIZE == (int)USAGE_PATH_SIZE, "paths of a share");

struct share {
  const hami_limits *page;
  uint32_t sequence;           /* of the page when the limits were taken */
  uint64_t limit[USAGE_KINDS]; /* by enum usage_kind; 0: none */
  uint32_t compute;            /* permille << 1 | granted */
  uint32_t mps_percent;        /* never changes: what a client was told when it began stays so */
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

static uint32_t compute_of(const guard_limits *limits) {
  return limits->compute_permille << 1 | (limits->compute_granted ? 1u : 0u);
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
  out->limit[USAGE_DEVICE] = limits.memory_limit_bytes;
  out->limit[USAGE_MANAGED] = limits.managed_limit_bytes;
  out->compute = compute_of(&limits);
  out->mps_percent = limits.mps_percent;
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

bool share_mps(struct share_mps *out) {
  for (unsigned i = 0; i < share_count(); i++) {
    if (shares[i].mps_percent == 0) continue;
    out->percent = shares[i].mps_percent;
    out->memory_bytes = __atomic_load_n(&shares[i].limit[USAGE_DEVICE], __ATOMIC_RELAXED);
    return path_of(out->pipes, shares[i].name, "mps") == 0 && path_of(out->alive, shares[i].name, "mps/alive") == 0;
  }
  return false;
}

/* A page that changed is read anew; while its writer is at work, or wrote nonsense, the last limits hold. */
static inline void refresh(struct share *share) {
  uint32_t sequence = __atomic_load_n(&share->page->sequence, __ATOMIC_ACQUIRE);
  if (__builtin_expect(sequence != __atomic_load_n(&share->sequence, __ATOMIC_ACQUIRE), 0) && (sequence & 1u) == 0) {
    GUARD_HOLD(&share->refresh_lock);
    guard_limits limits;
    if (limits_read(share->page, &limits, NULL) == 0) {
      __atomic_store_n(&share->limit[USAGE_DEVICE], limits.memory_limit_bytes, __ATOMIC_RELAXED);
      __atomic_store_n(&share->limit[USAGE_MANAGED], limits.managed_limit_bytes, __ATOMIC_RELAXED);
      __atomic_store_n(&share->compute, compute_of(&limits), __ATOMIC_RELAXED);
      __atomic_store_n(&share->sequence, limits.sequence, __ATOMIC_RELEASE);
    }
  }
}

/* The limit in force. */
static uint64_t limit_of(struct share *share, enum usage_kind kind) {
  refresh(share);
  return __atomic_load_n(&share->limit[kind], __ATOMIC_RELAXED);
}

static int reserve(share_set set, enum usage_kind kind, uint64_t bytes) {
  int result = -ENOENT;
  for (; set != 0; set &= set - 1) {
    int index = __builtin_ctzll(set);
    uint64_t limit = limit_of(&shares[index], kind);
    if (kind == USAGE_MANAGED && limit == 0) continue;
    int tried = usage_reserve(&shares[index].usage, kind, bytes, limit, NULL);
    if (tried == 0) return index;
    result = tried;
  }
  return result;
}

int share_reserve(share_set set, uint64_t bytes) { return reserve(set, USAGE_DEVICE, bytes); }

int share_reserve_managed(share_set set, uint64_t bytes) { return reserve(set, USAGE_MANAGED, bytes); }

bool share_allows_managed(share_set set) {
  for (; set != 0; set &= set - 1) {
    if (limit_of(&shares[__builtin_ctzll(set)], USAGE_MANAGED) != 0) return true;
  }
  return false;
}

void share_force(unsigned share, uint64_t bytes) { usage_force(&shares[share].usage, bytes); }

void share_note_overhead(unsigned share, uint64_t bytes) { usage_note_overhead(&shares[share].usage, bytes); }

uint64_t share_held(share_set set) {
  uint64_t sum = 0;
  for (; set != 0; set &= set - 1) sum = usage_add(sum, usage_held(&shares[__builtin_ctzll(set)].usage));
  return sum;
}

enum share_knowledge share_context_bytes(unsigned share, uint64_t *bytes) {
  guard_usage *usage = &shares[share].usage;
  if (usage_context_bytes(usage, bytes)) return SHARE_KNOWS;
  if (!usage_learning_begins(usage)) return SHARE_WAIT;
  if (!usage_context_bytes(usage, bytes)) return SHARE_LEARN;
  usage_learning_ends(usage); /* somebody found it out between the two questions */
  return SHARE_KNOWS;
}

void share_learned_context(unsigned share, bool known, uint64_t bytes) {
  if (known) usage_learn_context(&shares[share].usage, bytes);
  usage_learning_ends(&shares[share].usage);
}

void share_count_refusal(share_set set) {
  if (set != 0) usage_count_refusal(&shares[__builtin_ctzll(set)].usage);
}

void share_release(unsigned share, uint64_t bytes) { usage_release(&shares[share].usage, USAGE_DEVICE, bytes); }

void share_release_managed(unsigned share, uint64_t bytes) {
  usage_release(&shares[share].usage, USAGE_MANAGED, bytes);
}

int share_credit_hold(const credit_key *key, uint64_t bytes, unsigned *share) {
  int credit = CREDIT_NONE;
  for (*share = 0; *share < share_count(); ++*share) {
    credit = credit_hold(&shares[*share].usage, key, bytes);
    if (credit != CREDIT_NONE) break;
  }
  return credit;
}

int share_credit_make(unsigned share, enum credit_role role, const credit_key *key, uint64_t bytes) {
  return credit_make(&shares[share].usage, role, key, bytes);
}

void share_credit_drop(unsigned share, int credit) { credit_drop(&shares[share].usage, credit); }

void share_credit_tell(unsigned share, int credit, credit_key *key, uint64_t *bytes) {
  credit_tell(&shares[share].usage, credit, key, bytes);
}

static void add_to(struct share_sum *sum, uint64_t limit, uint64_t used, bool known) {
  sum->limit_bytes = usage_add(sum->limit_bytes, limit);
  sum->used_bytes = usage_add(sum->used_bytes, known ? used : limit);
  sum->free_bytes = usage_add(sum->free_bytes, known ? usage_sub(limit, used) : 0);
}

void share_look(share_set set, struct share_view *out) {
  memset(out, 0, sizeof *out);
  out->limited = true;
  for (; set != 0; set &= set - 1) {
    struct share *share = &shares[__builtin_ctzll(set)];
    uint64_t limit = limit_of(share, USAGE_DEVICE), managed = limit_of(share, USAGE_MANAGED), used[USAGE_KINDS];
    bool known = usage_view(&share->usage, used, NULL) == 0;
    if (limit == 0) out->limited = false;
    add_to(&out->device, limit, used[USAGE_DEVICE], known);
    add_to(&out->managed, managed, used[USAGE_MANAGED], known);
  }
}

/* ---- processes ---- */

static unsigned add_process(struct share_process *out, unsigned count, unsigned room,
                            const struct usage_process *process) {
  for (unsigned i = 0; process->pid != 0 && i < count; i++) {
    if (out[i].pid != process->pid) continue;
    out[i].used_bytes = usage_add(out[i].used_bytes, process->used_bytes);
    return count;
  }
  if (count == room) return count;
  out[count] = (struct share_process){process->pid, process->used_bytes};
  return count + 1;
}

unsigned share_processes(share_set set, struct share_process *out, unsigned room) {
  unsigned count = 0;
  struct usage_process *found = prim_pages(HAMI_USAGE_SLOTS * sizeof *found);
  for (; found != NULL && set != 0; set &= set - 1) {
    int seen = usage_processes(&shares[__builtin_ctzll(set)].usage, found, HAMI_USAGE_SLOTS);
    for (int i = 0; i < seen; i++) count = add_process(out, count, room, &found[i]);
  }
  prim_unmap(found, HAMI_USAGE_SLOTS * sizeof *found);
  return count;
}

/* ---- compute ---- */

uint32_t share_compute_permille(unsigned share, bool *granted) {
  refresh(&shares[share]);
  uint32_t compute = __atomic_load_n(&shares[share].compute, __ATOMIC_RELAXED);
  *granted = (compute & 1u) != 0;
  return compute >> 1;
}

bool share_any_compute(void) {
  uint32_t any = 0;
  for (unsigned i = 0; i < share_count(); i++) {
    refresh(&shares[i]);
    any |= __atomic_load_n(&shares[i].compute, __ATOMIC_RELAXED);
  }
  return any >> 1 != 0;
}

hami_usage *share_usage(unsigned share, hami_usage_slot **slot) {
  int index = USAGE_NO_SLOT;
  hami_usage *usage = usage_join(&shares[share].usage, &index);
  *slot = usage != NULL && index != USAGE_NO_SLOT ? &usage->slots[index] : NULL;
  return usage;
}

static uint64_t hash_of(const char *text) {
  uint64_t hash = 14695981039346656037u;
  for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 1099511628211u;
  return hash;
}

uint64_t share_phase(uint64_t limit) {
  uint64_t least = UINT64_MAX;
  for (unsigned i = 0; i < share_count(); i++) {
    uint64_t hash = hash_of(shares[i].name);
    if (hash < least) least = hash;
  }
  return (least >> 32) * limit >> 32;
}
