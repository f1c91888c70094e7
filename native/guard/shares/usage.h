/* The usage file of one share: how much device memory its processes hold together.
 *
 * The file belongs to the tenant, so nothing in it is trusted: every value may be garbage at any moment.  What decides who lives is
 * the kernel: a slot belongs to the process that holds the record lock of its byte, and the lock goes with the process.
 *
 * Reserve-commit: usage_reserve charges before the driver is asked; whoever then gets nothing from the driver gives the charge
 * back.  The sum over the processes can therefore not pass the limit, whatever they do at the same time.  `held` is this
 * process's own truth; its slot follows it, and the shared counter follows the slots.
 *
 * No process waits for another.  The counter in the header changes by compare-and-swap and is never less than what the living hold:
 * a slot is raised before the counter is and lowered after it, and says meanwhile how much of it is moving.  So whoever finds the slot
 * of a dead process can take out of the counter what was in it for certain.  What the dead leave behind beyond that, and what garbage
 * does, a recount repairs: two equal looks at all slots, and a swap that fails when the counter changed meanwhile.
 * What processes hold together is in no slot but in a credit, which the counter has as well (credit.h).
 */
#ifndef GUARD_USAGE_H
#define GUARD_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "hami_abi.h"
#include "lock.h"

enum { USAGE_PATH_SIZE = 320, USAGE_NO_SLOT = -1 };

/* What is counted, each with a limit of its own. */
enum usage_kind { USAGE_DEVICE, USAGE_MANAGED, USAGE_KINDS };

typedef struct guard_usage {
  guard_lock lock; /* one thread of this process at a time; guards all that follows */
  hami_usage *shared;
  uint64_t device; /* of the file, with inode: is fd still ours? */
  uint64_t inode;
  uint64_t held[USAGE_KINDS];   /* bytes charged to this process */
  uint64_t overhead;            /* part of held[USAGE_DEVICE] */
  uint64_t credited;            /* sum of the credits that this process holds, beside held[USAGE_DEVICE] */
  struct usage_credit *credits; /* which these are, see credit.c; NULL before the first */
  uint64_t started_ns;          /* as written to our slot */
  uint64_t checked_ns;          /* when fd was last seen to be ours */
  int fd;
  int slot;
  bool has_credits; /* the file has room for them */
  char path[USAGE_PATH_SIZE];
} guard_usage;

void usage_init(guard_usage *usage, const char *path);
/* In a forked child: the parent's charges, slot and locks are not ours. */
void usage_forget(guard_usage *usage);

/* Charges bytes; limit 0 is no limit.  -ENOMEM: they would pass the limit, even without the dead.  Any other failure: the file
 * cannot be used, nothing is charged. */
int usage_reserve(guard_usage *usage, enum usage_kind kind, uint64_t bytes, uint64_t limit, guard_error *err);
/* Charges bytes that the driver has handed out already, whatever the limit says. */
void usage_force(guard_usage *usage, uint64_t bytes);
/* Gives bytes back, at most what this process holds.  Cannot fail: what the file does not take now it takes with the next call. */
void usage_release(guard_usage *usage, enum usage_kind kind, uint64_t bytes);
/* Device memory charged to this process, and what is charged for memory that it holds with others. */
uint64_t usage_held(guard_usage *usage);
/* Says how much of what this process was charged for the driver took by itself. */
void usage_note_overhead(guard_usage *usage, uint64_t bytes);
/* What the driver takes for a context in this share's processes: false while nobody knows. */
bool usage_context_bytes(guard_usage *usage, uint64_t *bytes);
void usage_learn_context(guard_usage *usage, uint64_t bytes);
/* One process at a time finds it out; false while another one does. */
bool usage_learning_begins(guard_usage *usage);
void usage_learning_ends(guard_usage *usage);
/* Counts one request that was refused because of the limit. */
void usage_count_refusal(guard_usage *usage);

/* What the living processes of the share hold, by enum usage_kind.  Takes no slot. */
int usage_view(guard_usage *usage, uint64_t bytes[USAGE_KINDS], guard_error *err);
/* One living process of the share. */
struct usage_process {
  int32_t pid; /* as our pid namespace has it; 0 when it has none */
  uint64_t used_bytes;
};
/* Fills at most room processes and returns how many there are; negative when the file cannot be used. */
int usage_processes(guard_usage *usage, struct usage_process *out, int room);
/* Makes this process one of the share's, if it is not, and says which slot it has (USAGE_NO_SLOT: none can be had).  NULL when the
 * file cannot be mapped. */
hami_usage *usage_join(guard_usage *usage, int *slot);

/* Internal to usage*.c, with usage->lock held. */

/* Makes the mapping and a slot of our own usable. */
int usage_enter(guard_usage *usage, guard_error *err);
/* Takes the charges of the dead out of the counters. */
void usage_retire_dead(guard_usage *usage);
/* Takes one slot's charge out of the counters and empties it; its byte is ours.  False: it cannot be done now. */
bool usage_retire(guard_usage *usage, uint32_t index);
/* Puts all that this process holds into its fresh slot and into the counters. */
void usage_publish(guard_usage *usage);
/* usage_release without its lock. */
void usage_give_back(guard_usage *usage, enum usage_kind kind, uint64_t bytes);
/* Takes bytes of device memory out of the counter in the header, which are in no slot. */
void usage_lower_total(guard_usage *usage, uint64_t bytes);
/* Around a change of a counter and of what it sums up. */
uint32_t usage_change_begins(const guard_usage *usage);
void usage_change_ends(guard_usage *usage, uint32_t began);

static inline uint64_t usage_byte(uint32_t slot) { return (uint64_t)HAMI_USAGE_SIZE + slot; }

static inline uint64_t usage_add(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static inline uint64_t usage_sub(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

static inline uint64_t usage_load(const uint64_t *field) { return __atomic_load_n(field, __ATOMIC_ACQUIRE); }

static inline void usage_store(uint64_t *field, uint64_t value) { __atomic_store_n(field, value, __ATOMIC_RELEASE); }

#endif
