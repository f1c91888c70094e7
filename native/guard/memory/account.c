#include "account.h"

#include <string.h>

static uint64_t more(uint64_t a, uint64_t b) { return a > b ? a : b; }

static uint64_t plus(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t whole(const struct account *account, uint64_t bytes) {
  uint64_t rest = bytes % account->granule;
  return rest == 0 ? bytes : plus(bytes, account->granule - rest);
}

void account_open(struct account *account, share_set shares, uint64_t granule) {
  memset(account, 0, sizeof *account);
  account->shares = shares;
  account->granule = granule;
}

/* With the lock. */
static bool grow(struct account *account, uint64_t bytes) {
  int share = share_reserve(account->shares, bytes);
  if (share < 0) return false;
  account->by_share[share] += bytes;
  account->charged += bytes;
  return true;
}

static void force(struct account *account, uint64_t bytes) {
  if (account->shares == 0) return;
  int share = __builtin_ctzll(account->shares);
  share_force((unsigned)share, bytes);
  account->by_share[share] += bytes;
  account->charged += bytes;
}

static void shrink(struct account *account, uint64_t bytes) {
  for (share_set left = account->shares; left != 0 && bytes != 0; left &= left - 1) {
    unsigned share = (unsigned)__builtin_ctzll(left);
    uint64_t part = account->by_share[share] < bytes ? account->by_share[share] : bytes;
    if (part != 0) share_release(share, part);
    account->by_share[share] -= part;
    account->charged -= part;
    bytes -= part;
  }
}

/* Makes the charge what it should be; false when there was no room for it.  What the driver reserved may contain what calls under way were
 * admitted for: together they are too much to grow by, and enough to shrink to. */
static bool settle(struct account *account) {
  uint64_t certain = more(account->handed, account->reserved);
  uint64_t due = plus(certain, account->admitted);
  if (due > account->charged) due = more(certain, account->charged);
  if (due < account->charged) shrink(account, account->charged - due);
  if (due <= account->charged || grow(account, due - account->charged)) return true;
  force(account, due - account->charged);
  return false;
}

void account_close(struct account *account) {
  GUARD_HOLD(&account->lock);
  account->handed = account->reserved = account->admitted = 0;
  (void)settle(account);
}

int account_begin(struct account *account, uint64_t bytes, uint64_t *admitted) {
  GUARD_HOLD(&account->lock);
  *admitted = plus(whole(account, bytes), account->surplus);
  if (!grow(account, *admitted)) return -1;
  account->admitted += *admitted;
  return 0;
}

uint64_t account_question(struct account *account) {
  GUARD_HOLD(&account->lock);
  return ++account->questions;
}

bool account_answer(struct account *account, uint64_t ticket, uint64_t reserved, int64_t handed, uint64_t admitted) {
  GUARD_HOLD(&account->lock);
  uint64_t before = more(account->handed, account->reserved);
  account->admitted -= admitted < account->admitted ? admitted : account->admitted;
  if (handed >= 0) account->handed = plus(account->handed, (uint64_t)handed);
  if (handed < 0) account->handed -= (uint64_t)-handed < account->handed ? (uint64_t)-handed : account->handed;
  if (ticket > account->answered) {
    account->answered = ticket;
    account->reserved = reserved;
    uint64_t asked = plus(plus(before, handed > 0 ? whole(account, (uint64_t)handed) : 0), account->admitted);
    if (handed > 0 && reserved > asked) account->surplus = more(account->surplus, reserved - asked);
  }
  return settle(account);
}

bool account_adjust(struct account *account, int64_t reserved, uint64_t admitted) {
  GUARD_HOLD(&account->lock);
  account->answered = ++account->questions;
  account->admitted -= admitted < account->admitted ? admitted : account->admitted;
  if (reserved >= 0) account->reserved = plus(account->reserved, (uint64_t)reserved);
  if (reserved < 0)
    account->reserved -= (uint64_t)-reserved < account->reserved ? (uint64_t)-reserved : account->reserved;
  return settle(account);
}

bool account_raise(struct account *account, uint64_t reserved) {
  GUARD_HOLD(&account->lock);
  uint64_t without = reserved > account->admitted ? reserved - account->admitted : 0;
  account->reserved = more(account->reserved, without);
  return settle(account);
}

void account_clamp(struct account *account) {
  GUARD_HOLD(&account->lock);
  if (account->handed > account->reserved) account->handed = account->reserved;
  (void)settle(account);
}

uint64_t account_charged(struct account *account) {
  GUARD_HOLD(&account->lock);
  return account->charged;
}

uint64_t account_reserved(struct account *account) {
  GUARD_HOLD(&account->lock);
  return account->reserved;
}

uint64_t account_of_share(struct account *account, unsigned share) {
  GUARD_HOLD(&account->lock);
  return account->by_share[share];
}

bool account_is_used(struct account *account) {
  GUARD_HOLD(&account->lock);
  return account->handed != 0 || account->admitted != 0;
}

bool account_has_slack(struct account *account) {
  GUARD_HOLD(&account->lock);
  return account->charged > account->handed;
}
