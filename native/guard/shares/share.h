/* The shares of this container: one directory each below /run/hami, mounted there by the container runtime.
 *
 * A directory whose limits file cannot be believed is a broken share.  Nobody knows its device, so while there is one, devices
 * that no valid share names are closed to allocations; devices with a valid share are limited by that.  Broken shares are looked
 * at again whenever one of them is the reason for a refusal.
 */
#ifndef GUARD_SHARE_H
#define GUARD_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include "credit.h"
#include "hami_abi.h"

#ifndef GUARD_SHARE_ROOT
#define GUARD_SHARE_ROOT "/run/hami"
#endif

enum { SHARE_MAX = 64, SHARE_UUID_TEXT = 64 };

/* A set of shares: bit i is share i. */
typedef uint64_t share_set;

/* What the shares of one device amount to: by what is counted (enum usage_kind) the sums of the limits, of what the living processes
 * hold, and of what is left in each share (0 where the usage file cannot be used). */
struct share_sum {
  uint64_t limit_bytes, used_bytes, free_bytes;
};
struct share_view {
  bool limited; /* false: at least one share has no memory limit */
  struct share_sum device, managed;
};

/* First use of the process, or of a forked child. */
void share_reset(void);
unsigned share_count(void);
bool share_is_any_broken(void);
/* Tries the broken shares again. */
void share_heal(void);

/* The shares of the device with this UUID, as text of any vendor ("GPU-…", "MIG-…"). */
share_set share_of_uuid(const char *uuid);
/* Charges bytes to the first share of the set that has room.  Its index, or a negative errno value. */
int share_reserve(share_set shares, uint64_t bytes);
/* The same for managed memory beyond the shares of the card. */
int share_reserve_managed(share_set shares, uint64_t bytes);
/* True when one of the shares allows managed memory beyond its share of the card. */
bool share_allows_managed(share_set shares);
void share_release_managed(unsigned share, uint64_t bytes);
/* Says how much of what this process was charged for the driver took by itself. */
void share_note_overhead(unsigned share, uint64_t bytes);
/* Charges what the driver has handed out already, whatever the limit says. */
void share_force(unsigned share, uint64_t bytes);
/* What this process is charged for. */
uint64_t share_held(share_set shares);
/* What the driver takes for a context: known, or to be found out by this process, which then says so, or being found out by another. */
enum share_knowledge { SHARE_KNOWS, SHARE_LEARN, SHARE_WAIT };
enum share_knowledge share_context_bytes(unsigned share, uint64_t *bytes);
void share_learned_context(unsigned share, bool known, uint64_t bytes);
/* Counts one request that none of the shares had room for. */
void share_count_refusal(share_set shares);
void share_release(unsigned share, uint64_t bytes);
/* Memory that processes of a share hold together, see credit.h.  Any of the container's shares may know the key. */
int share_credit_hold(const credit_key *key, uint64_t bytes, unsigned *share);
int share_credit_make(unsigned share, enum credit_role role, const credit_key *key, uint64_t bytes);
void share_credit_drop(unsigned share, int credit);
void share_credit_tell(unsigned share, int credit, credit_key *key, uint64_t *bytes);
void share_look(share_set shares, struct share_view *out);

/* One process of the shares, in our pid namespace; pid 0: it lives in another. */
struct share_process {
  int32_t pid;
  uint64_t used_bytes;
};
/* Fills at most room of the shares' living processes, each once, and returns how many that were. */
unsigned share_processes(share_set shares, struct share_process *out, unsigned room);

/* What a client of MPS has to be told; false where no share of the container is under MPS. */
enum { SHARE_PATH_SIZE = 320 };
struct share_mps {
  uint32_t percent;            /* of the multiprocessors */
  uint64_t memory_bytes;       /* 0: no limit */
  char pipes[SHARE_PATH_SIZE]; /* the daemon's pipe directory */
  char alive[SHARE_PATH_SIZE]; /* its first byte is locked as long as the daemon serves */
};
bool share_mps(struct share_mps *out);

/* The compute limit in force, in thousandths of the device; 0: none.  *granted: somebody outside sets it by what he sees. */
uint32_t share_compute_permille(unsigned share, bool *granted);
/* Whether any share has a compute limit now. */
bool share_any_compute(void);
/* The usage file's content and this process's slot in it (NULL: none now); NULL when the file cannot be used. */
hami_usage *share_usage(unsigned share, hami_usage_slot **slot);
/* A number below limit that is the same in all processes of containers with these shares. */
uint64_t share_phase(uint64_t limit);

#endif
