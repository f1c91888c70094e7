#include "usage.h"

#include <errno.h>
#include <string.h>

#include "credit.h"
#include "prim.h"

enum { INIT_TRIES = 1000 };
static const uint64_t INIT_NAP_NS = 1000000u;

void usage_init(guard_usage *usage, const char *path) {
  memset(usage, 0, sizeof *usage);
  usage->fd = -1;
  usage->slot = USAGE_NO_SLOT;
  strncpy(usage->path, path, sizeof usage->path - 1);
}

void usage_forget(guard_usage *usage) {
  usage->lock.word = 0;
  usage->slot = USAGE_NO_SLOT;
  memset(usage->held, 0, sizeof usage->held);
  usage->overhead = 0;
  usage->credited = 0;
  usage->credits = NULL; /* a parent's stay mapped, as its ledger does */
}

/* The magic as one word, so that it is there whole or not at all. */
static uint64_t *magic_of(hami_usage *shared) { return (uint64_t *)(void *)shared->header.magic; }

static uint64_t magic_word(void) {
  uint64_t word;
  memcpy(&word, HAMI_USAGE_MAGIC, sizeof word);
  return word;
}

static bool is_initialised(hami_usage *shared) {
  return __atomic_load_n(magic_of(shared), __ATOMIC_ACQUIRE) == magic_word();
}

/* Files that were made before there were credits end with the slots. */
static size_t size_of(const struct prim_file *file) {
  return file->size < HAMI_USAGE_FILE_SIZE ? HAMI_USAGE_SIZE : HAMI_USAGE_FILE_SIZE;
}

/* The first process of the share writes the header; the byte behind the slots' bytes says who that is. */
static int initialise(hami_usage *shared, size_t size, int fd) {
  static uint32_t nap;
  for (int tries = 0; !is_initialised(shared); tries++) {
    if (tries == INIT_TRIES) return -ETIMEDOUT;
    if (prim_byte_take(fd, usage_byte(HAMI_USAGE_SLOTS)) != 0) {
      prim_futex_wait(&nap, 0, INIT_NAP_NS, false);
      continue;
    }
    if (!is_initialised(shared)) {
      memset(shared, 0, size);
      shared->header.abi_version = size == HAMI_USAGE_SIZE ? 1 : HAMI_USAGE_ABI_VERSION;
      __atomic_store_n(magic_of(shared), magic_word(), __ATOMIC_RELEASE);
    }
    (void)prim_byte_drop(fd, usage_byte(HAMI_USAGE_SLOTS));
  }
  bool known = shared->header.abi_version == 1 ||
               (shared->header.abi_version == HAMI_USAGE_ABI_VERSION && size == HAMI_USAGE_FILE_SIZE);
  return known ? 0 : -EPROTO;
}

static int open_file(guard_usage *usage, struct prim_file *file, guard_error *err) {
  int fd = prim_open(usage->path, true);
  if (fd < 0) return guard_fail(err, -fd, "usage: cannot be opened for writing");
  if (prim_stat(fd, file) < 0 || !file->regular || file->size < HAMI_USAGE_SIZE) {
    prim_close(fd);
    return guard_fail(err, EINVAL, "usage: not a regular file of the right size");
  }
  return prim_raise(fd);
}

/* Makes fd and mapping usable; once they are, this is one comparison. */
static int attach(guard_usage *usage, guard_error *err) {
  if (usage->shared != NULL) return 0;
  struct prim_file file;
  int fd = open_file(usage, &file, err);
  if (fd < 0) return fd;
  hami_usage *shared = prim_map(fd, size_of(&file), true);
  if (shared == NULL) {
    prim_close(fd);
    return guard_fail(err, ENOMEM, "usage: cannot be mapped");
  }
  int result = initialise(shared, size_of(&file), fd);
  if (result < 0) {
    prim_unmap(shared, size_of(&file));
    prim_close(fd);
    return guard_fail(err, -result, "usage: cannot be initialised");
  }
  usage->fd = fd;
  usage->device = file.device;
  usage->inode = file.inode;
  usage->has_credits = shared->header.abi_version == HAMI_USAGE_ABI_VERSION;
  usage->shared = shared;
  return 0;
}

static bool fd_is_ours(const guard_usage *usage) {
  struct prim_file file;
  return usage->fd >= 0 && prim_stat(usage->fd, &file) == 0 && file.device == usage->device &&
         file.inode == usage->inode;
}

/* A program may have closed our descriptor, which also dropped our record lock. */
static int reattach(guard_usage *usage, guard_error *err) {
  if (fd_is_ours(usage)) return 0;
  struct prim_file file;
  int fd = open_file(usage, &file, err);
  if (fd < 0) return fd;
  if (file.device != usage->device || file.inode != usage->inode) {
    prim_close(fd);
    return guard_fail(err, ESTALE, "usage: the file was replaced");
  }
  usage->fd = fd;
  usage->slot = USAGE_NO_SLOT;
  return 0;
}

/* A closed descriptor has to be noticed before the others take us for dead and our memory for free.  Looking costs a system call:
 * not more often than the coarse clock ticks. */
static void check_descriptor(guard_usage *usage) {
  uint64_t now = prim_coarse_ns();
  if (usage->slot == USAGE_NO_SLOT || now == usage->checked_ns) return;
  usage->checked_ns = now;
  if (!fd_is_ours(usage)) usage->slot = USAGE_NO_SLOT;
}

static bool slot_is_ours(const guard_usage *usage) {
  const hami_usage_slot *slot = &usage->shared->slots[usage->slot];
  return __atomic_load_n(&slot->state, __ATOMIC_RELAXED) == 1 && usage_load(&slot->start_time_ns) == usage->started_ns;
}

/* The slot's byte is ours, its content still its predecessor's. */
static bool move_in(guard_usage *usage, uint32_t index) {
  hami_usage_slot *slot = &usage->shared->slots[index];
  if (!usage_retire(usage, index)) return false;
  usage->slot = (int)index;
  usage->started_ns = prim_boottime_ns();
  slot->pid = prim_pid();
  usage_store(&slot->start_time_ns, usage->started_ns);
  __atomic_store_n(&slot->state, 1u, __ATOMIC_RELEASE);
  usage_publish(usage);
  usage_retire_dead(usage); /* also for whoever reads the counter from outside: the dead do not stay in it */
  return true;
}

/* A slot for this process: first a free one, then one whose owner died. */
static int claim(guard_usage *usage, guard_error *err) {
  usage->slot = USAGE_NO_SLOT;
  for (int reuse = 0; reuse < 2; reuse++) {
    for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) {
      uint32_t state = __atomic_load_n(&usage->shared->slots[i].state, __ATOMIC_RELAXED);
      if ((state != 0) != (reuse != 0)) continue;
      if (prim_byte_take(usage->fd, usage_byte(i)) != 0) continue;
      if (move_in(usage, i)) return 0;
      (void)prim_byte_drop(usage->fd, usage_byte(i));
    }
  }
  return guard_fail(err, EUSERS, "usage: no free slot");
}

int usage_enter(guard_usage *usage, guard_error *err) {
  check_descriptor(usage);
  int result = attach(usage, err);
  if (result < 0 || (usage->slot != USAGE_NO_SLOT && slot_is_ours(usage))) return result;
  result = reattach(usage, err);
  return result < 0 ? result : claim(usage, err);
}

/* ---- what others hold ---- */

/* Those of the credits that are put down to this slot, or to any living process. */
static uint64_t credits_of(const guard_usage *usage, uint32_t slot) {
  uint64_t sum = 0, mark;
  for (uint32_t i = 0; i < credit_count(usage); i++) {
    uint32_t payer = credit_payer(usage, i);
    if (payer != HAMI_USAGE_SLOTS && (payer == slot || slot == HAMI_USAGE_SLOTS))
      sum = usage_add(sum, credit_bytes(usage, i, &mark));
  }
  return sum;
}

static void add_slot(const guard_usage *usage, uint32_t index, uint64_t bytes[USAGE_KINDS]) {
  const hami_usage_slot *slot = &usage->shared->slots[index];
  uint64_t used = usage_load(&slot->used_bytes), managed = usage_load(&slot->managed_bytes);
  if ((int)index == usage->slot || (used == 0 && managed == 0)) return;
  if (prim_byte_held(usage->fd, usage_byte(index)) == 0) return;
  bytes[USAGE_DEVICE] = usage_add(bytes[USAGE_DEVICE], used);
  bytes[USAGE_MANAGED] = usage_add(bytes[USAGE_MANAGED], managed);
}

int usage_view(guard_usage *usage, uint64_t bytes[USAGE_KINDS], guard_error *err) {
  GUARD_HOLD(&usage->lock);
  int result = attach(usage, err);
  if (result < 0) return result;
  const hami_usage_header *header = &usage->shared->header;
  memcpy(bytes, usage->held, sizeof usage->held);
  if (usage_load(&header->used_bytes) == bytes[USAGE_DEVICE] &&
      usage_load(&header->managed_bytes) == bytes[USAGE_MANAGED])
    return 0; /* nobody else holds anything */
  result = reattach(usage, err);
  if (result < 0) return result;
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) add_slot(usage, i, bytes);
  bytes[USAGE_DEVICE] = usage_add(bytes[USAGE_DEVICE], credits_of(usage, HAMI_USAGE_SLOTS));
  return 0;
}

int usage_processes(guard_usage *usage, struct usage_process *out, int room) {
  GUARD_HOLD(&usage->lock);
  int result = attach(usage, NULL), count = 0;
  if (result == 0) result = reattach(usage, NULL);
  if (result < 0) return result;
  for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) {
    const hami_usage_slot *slot = &usage->shared->slots[i];
    struct usage_process process = {.used_bytes = usage_load(&slot->used_bytes)};
    bool own = (int)i == usage->slot;
    if (__atomic_load_n(&slot->state, __ATOMIC_RELAXED) == 0) continue;
    if (own) process = (struct usage_process){prim_pid(), usage->held[USAGE_DEVICE]};
    if (!own && prim_byte_holder(usage->fd, usage_byte(i), &process.pid) != 1) continue;
    process.used_bytes = usage_add(process.used_bytes, credits_of(usage, i));
    if (count < room) out[count] = process;
    count++;
  }
  return count;
}

hami_usage *usage_join(guard_usage *usage, int *slot) {
  GUARD_HOLD(&usage->lock);
  *slot = usage_enter(usage, NULL) == 0 ? usage->slot : USAGE_NO_SLOT;
  return usage->shared;
}

/* ---- what a context takes ---- */

enum { LEARNING_BYTE = HAMI_USAGE_SLOTS + 1 };

bool usage_context_bytes(guard_usage *usage, uint64_t *bytes) {
  GUARD_HOLD(&usage->lock);
  if (usage_enter(usage, NULL) < 0) return false;
  uint64_t known = usage_load(&usage->shared->header.context_bytes);
  *bytes = usage_sub(known, 1);
  return known != 0;
}

void usage_learn_context(guard_usage *usage, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  if (usage_enter(usage, NULL) < 0) return;
  uint64_t *field = &usage->shared->header.context_bytes;
  if (usage_add(bytes, 1) > usage_load(field)) usage_store(field, usage_add(bytes, 1));
}

bool usage_learning_begins(guard_usage *usage) {
  GUARD_HOLD(&usage->lock);
  return usage_enter(usage, NULL) == 0 && prim_byte_take(usage->fd, usage_byte(LEARNING_BYTE)) == 0;
}

void usage_learning_ends(guard_usage *usage) {
  GUARD_HOLD(&usage->lock);
  (void)prim_byte_drop(usage->fd, usage_byte(LEARNING_BYTE));
}
