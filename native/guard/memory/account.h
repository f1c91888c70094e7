/* A charge that grows and shrinks as the driver takes and gives back: that of a pool, or of a device's graphs.
 *
 * The driver says how much it keeps (`reserved`), the program's calls say how much it was handed out; charged is the larger of the two,
 * and on top of it what calls under way were admitted for.  A figure of the driver is asked for without a lock, so answers may arrive in
 * another order than the questions were put: each question takes a ticket before it is put, and an answer counts only when none
 * to a later question was there before it.  A call under way keeps its admission until the answer to its own question is in.
 */
#ifndef GUARD_ACCOUNT_H
#define GUARD_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "lock.h"
#include "share.h"

struct account {
  guard_lock lock; /* guards all that follows; never held across a call of the driver */
  share_set shares;
  uint64_t handed;    /* out to the program */
  uint64_t reserved;  /* by the driver, at its last word */
  uint64_t admitted;  /* for calls under way */
  uint64_t granule;   /* the driver reserves whole ones */
  uint64_t surplus;   /* the most that it ever took beyond that */
  uint64_t charged;   /* sum of by_share */
  uint64_t questions; /* tickets given out */
  uint64_t answered;  /* the latest ticket whose answer counted */
  uint64_t by_share[SHARE_MAX];
};

void account_open(struct account *account, share_set shares, uint64_t granule);
/* Gives all back. */
void account_close(struct account *account);

/* Before the driver is asked for bytes: room for them, and for what the driver is known to take beside them.  *admitted is what
 * account_end gets.  0, or a negative errno value and nothing is charged. */
int account_begin(struct account *account, uint64_t bytes, uint64_t *admitted);
/* A ticket for a question to the driver. */
uint64_t account_question(struct account *account);
/* The driver's answer.  handed: what the program got since (account_begin) or gave back (negative); admitted: what is no longer under
 * way.  False when the driver holds more than there was room for: that is charged all the same. */
bool account_answer(struct account *account, uint64_t ticket, uint64_t reserved, int64_t handed, uint64_t admitted);
/* Knowledge from elsewhere than the driver's word: reserved changes by this much, answers to questions put before are void. */
bool account_adjust(struct account *account, int64_t reserved, uint64_t admitted);
/* The driver reserves at least this much, calls under way included. */
bool account_raise(struct account *account, uint64_t reserved);
/* Believes the driver that the program holds no more than it reserves: after what ends allocations without freeing them. */
void account_clamp(struct account *account);
uint64_t account_charged(struct account *account);
uint64_t account_reserved(struct account *account);
uint64_t account_of_share(struct account *account, unsigned share);
/* True while the program holds something. */
bool account_is_used(struct account *account);
/* True while more is charged than the program holds: the driver may give it back at any time. */
bool account_has_slack(struct account *account);

#endif
