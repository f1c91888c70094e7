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

#ifndef GUARD_SHARE_ROOT
#define GUARD_SHARE_ROOT "/run/hami"
#endif

enum { SHARE_MAX = 64, SHARE_UUID_TEXT = 64 };

/* A set of shares: bit i is share i. */
typedef uint64_t share_set;

/* What the shares of one device amount to. */
struct share_view {
  bool limited;         /* false: at least one share has no memory limit */
  uint64_t limit_bytes; /* sum of the limits */
  uint64_t used_bytes;  /* sum over the living processes */
  uint64_t free_bytes;  /* sum of what is left in each; 0 where the usage file cannot be used */
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
/* Charges what the driver has handed out already, whatever the limit says. */
void share_force(unsigned share, uint64_t bytes);
/* Counts one request that none of the shares had room for. */
void share_count_refusal(share_set shares);
void share_release(unsigned share, uint64_t bytes);
void share_look(share_set shares, struct share_view *out);

#endif
