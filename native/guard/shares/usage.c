#include "usage.h"

#include <errno.h>
#include <string.h>

#include "prim.h"

enum { INIT_TRIES = 1000, CLAIM_TRIES = 3 };
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
  usage->held = 0;
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

/* The first process of the share writes the header; the byte behind the slots' bytes says who that is. */
static int initialise(hami_usage *shared, int fd) {
  static uint32_t nap;
  for (int tries = 0; !is_initialised(shared); tries++) {
    if (tries == INIT_TRIES) return -ETIMEDOUT;
    if (prim_byte_take(fd, usage_byte(HAMI_USAGE_SLOTS)) != 0) {
      prim_futex_wait(&nap, 0, INIT_NAP_NS, false);
      continue;
    }
    if (!is_initialised(shared)) {
      memset(shared, 0, sizeof *shared);
      shared->header.abi_version = HAMI_ABI_VERSION;
      __atomic_store_n(magic_of(shared), magic_word(), __ATOMIC_RELEASE);
    }
    (void)prim_byte_drop(fd, usage_byte(HAMI_USAGE_SLOTS));
  }
  return shared->header.abi_version == HAMI_ABI_VERSION ? 0 : -EPROTO;
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
  hami_usage *shared = prim_map(fd, sizeof *shared, true);
  if (shared == NULL) {
    prim_close(fd);
    return guard_fail(err, ENOMEM, "usage: cannot be mapped");
  }
  int result = initialise(shared, fd);
  if (result < 0) {
    prim_unmap(shared, sizeof *shared);
    prim_close(fd);
    return guard_fail(err, -result, "usage: cannot be initialised");
  }
  usage->fd = fd;
  usage->device = file.device;
  usage->inode = file.inode;
  usage->shared = shared;
  return 0;
}

/* A program may have closed our descriptor, which also dropped our record lock. */
static int reattach(guard_usage *usage, guard_error *err) {
  if (usage_fd_is_ours(usage)) return 0;
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
  if (!usage_fd_is_ours(usage)) usage->slot = USAGE_NO_SLOT;
}

/* Makes slot and counter say what this process holds.  With the shared lock. */
static void settle(guard_usage *usage) {
  hami_usage_header *header = &usage->shared->header;
  hami_usage_slot *slot = &usage->shared->slots[usage->slot];
  uint64_t was = usage_load(&slot->used_bytes);
  uint64_t used = usage_load(&header->used_bytes);
  used = usage->held >= was ? usage_add(used, usage->held - was) : usage_sub(used, was - usage->held);
  usage_store(&slot->used_bytes, usage->held);
  usage_store(&header->used_bytes, used);
}

/* Takes the shared lock as the owner of a slot that is ours. */
static int enter(guard_usage *usage, guard_error *err) {
  int result = attach(usage, err);
  for (int tries = 0; result == 0 && tries < CLAIM_TRIES; tries++) {
    if (usage->slot == USAGE_NO_SLOT) {
      result = reattach(usage, err);
      if (result == 0) result = usage_slot_claim(usage, err);
      if (result < 0) break;
    }
    result = usage_shared_take(usage);
    if (result < 0) return guard_fail(err, -result, "usage: the lock is stuck");
    if (usage_slot_is_ours(usage)) return 0;
    usage_shared_drop(usage);
    usage->slot = USAGE_NO_SLOT;
  }
  return result < 0 ? result : guard_fail(err, EBUSY, "usage: the slot is taken away again and again");
}

static bool fits(uint64_t used, uint64_t bytes, uint64_t limit) {
  return limit == 0 || (bytes <= limit && used <= limit - bytes);
}

int usage_reserve(guard_usage *usage, uint64_t bytes, uint64_t limit, guard_error *err) {
  GUARD_HOLD(&usage->lock);
  check_descriptor(usage);
  int result = enter(usage, err);
  if (result < 0) return result;
  hami_usage_header *header = &usage->shared->header;
  settle(usage);
  bool room = fits(usage_load(&header->used_bytes), bytes, limit);
  if (!room && bytes <= limit) {
    usage_shared_recount(usage);
    room = fits(usage_load(&header->used_bytes), bytes, limit);
  }
  if (room) {
    hami_usage_slot *slot = &usage->shared->slots[usage->slot];
    usage->held = usage_add(usage->held, bytes);
    settle(usage);
    slot->allocations_total++;
    if (usage_load(&header->used_bytes) > header->peak_bytes) header->peak_bytes = usage_load(&header->used_bytes);
  } else {
    result = guard_fail(err, ENOMEM, "the share is full");
  }
  usage_shared_drop(usage);
  return result;
}

void usage_force(guard_usage *usage, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  usage->held = usage_add(usage->held, bytes);
  if (enter(usage, NULL) < 0) return;
  settle(usage);
  usage_shared_drop(usage);
}

void usage_count_refusal(guard_usage *usage) {
  GUARD_HOLD(&usage->lock);
  if (usage->shared != NULL) __atomic_fetch_add(&usage->shared->header.refused_total, 1, __ATOMIC_RELAXED);
}

void usage_release(guard_usage *usage, uint64_t bytes) {
  GUARD_HOLD(&usage->lock);
  usage->held = usage_sub(usage->held, bytes);
  if (enter(usage, NULL) < 0) return;
  settle(usage);
  usage_shared_drop(usage);
}

int usage_view(guard_usage *usage, uint64_t *bytes, guard_error *err) {
  GUARD_HOLD(&usage->lock);
  int result = attach(usage, err);
  if (result < 0) return result;
  uint64_t counted = usage_load(&usage->shared->header.used_bytes);
  uint64_t own = usage->held;
  if (counted != own) { /* somebody else holds memory: is it alive? */
    result = reattach(usage, err);
    if (result < 0) return result;
    counted = own;
    for (uint32_t i = 0; i < HAMI_USAGE_SLOTS; i++) {
      uint64_t used = usage_load(&usage->shared->slots[i].used_bytes);
      if (used == 0 || (int)i == usage->slot || prim_byte_held(usage->fd, usage_byte(i)) == 0) continue;
      counted = usage_add(counted, used);
    }
  }
  *bytes = counted;
  return 0;
}
