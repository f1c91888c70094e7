/* The usage file of one share: how much device memory its processes hold together.
 *
 * The file belongs to the tenant, so nothing in it is trusted: every value may be garbage at any moment.  What decides who lives is
 * the kernel: a slot belongs to the process that holds the record lock of its byte, and the lock goes with the process.
 *
 * Reserve-commit: usage_reserve charges before the driver is asked; whoever then gets nothing from the driver gives the charge
 * back.  The sum over the processes can therefore not pass the limit, whatever they do at the same time.  `held` is this
 * process's own truth; its slot follows it, and the shared counter follows the slots.
 */
#ifndef GUARD_USAGE_H
#define GUARD_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "hami_abi.h"
#include "lock.h"

enum { USAGE_PATH_SIZE = 320, USAGE_NO_SLOT = -1 };

typedef struct guard_usage {
  guard_lock lock; /* one thread of this process at a time; guards all that follows */
  hami_usage *shared;
  uint64_t device; /* of the file, with inode: is fd still ours? */
  uint64_t inode;
  uint64_t held;       /* bytes charged to this process */
  uint64_t started_ns; /* as written to our slot */
  uint64_t checked_ns; /* when fd was last seen to be ours */
  int fd;
  int slot;
  char path[USAGE_PATH_SIZE];
} guard_usage;

void usage_init(guard_usage *usage, const char *path);
/* In a forked child: the parent's charges, slot and locks are not ours. */
void usage_forget(guard_usage *usage);

/* Charges bytes; limit 0 is no limit.  -ENOMEM: they would pass the limit, even without the dead.  Any other failure: the file
 * cannot be used, nothing is charged. */
int usage_reserve(guard_usage *usage, uint64_t bytes, uint64_t limit, guard_error *err);
/* Charges bytes that the driver has handed out already, whatever the limit says. */
void usage_force(guard_usage *usage, uint64_t bytes);
/* Counts one request that was refused because of the limit. */
void usage_count_refusal(guard_usage *usage);
/* Gives bytes back, at most what this process holds.  Cannot fail: what the file does not take now it takes with the next call. */
void usage_release(guard_usage *usage, uint64_t bytes);
/* Bytes held by the living processes of the share.  Takes no shared lock and no slot. */
int usage_view(guard_usage *usage, uint64_t *bytes, guard_error *err);

/* Internal to usage*.c, with usage->lock held. */

/* The shared lock; on success `slots` and the counter are coherent.  -ETIMEDOUT when a living owner does not let go. */
int usage_shared_take(guard_usage *usage);
void usage_shared_drop(guard_usage *usage);
/* Zeroes the slots of the dead and makes the counter the sum over the living. */
void usage_shared_recount(guard_usage *usage);
/* A new slot for this process; its content is zero, its lock is held, its predecessor's charge is gone. */
int usage_slot_claim(guard_usage *usage, guard_error *err);
/* False when somebody took our slot from us (a file descriptor closed behind our back drops the record lock). */
bool usage_slot_is_ours(const guard_usage *usage);
/* True when fd still is the usage file. */
bool usage_fd_is_ours(const guard_usage *usage);

static inline uint64_t usage_byte(uint32_t slot) { return (uint64_t)HAMI_USAGE_SIZE + slot; }

static inline uint64_t usage_add(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static inline uint64_t usage_sub(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static inline uint64_t usage_load(const uint64_t *field) { return __atomic_load_n(field, __ATOMIC_RELAXED); }

static inline void usage_store(uint64_t *field, uint64_t value) { __atomic_store_n(field, value, __ATOMIC_RELAXED); }

#endif
