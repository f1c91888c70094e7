/* Memory that processes of one share handed to each other: charged once, whoever of its holders dies first.
 *
 * When a process exports a piece of memory its charge leaves the slot and becomes a credit: an entry of the usage file with a bit for each
 * slot whose process holds the memory.  Who imports it finds the credit by its key and adds its bit, before the driver is asked; who lets
 * go takes it away, after the driver has; and the last one ends the credit, which gives the charge back.  A dead process's bits go with its
 * slot, so nothing passes from one to another, and the counter in the header has the bytes once from the first charge to the last holder.
 *
 * The table changes under a record lock, which the kernel drops with its holder.  A step that death cut short leaves the counter too high,
 * never too low, and a recount repairs that: a credit is there before the slot is lowered, and gone after the counter is.
 * Where there is no credit to be had (a file of layout 1, a full table, a holder of the lock that does not run) each holder is charged in
 * full: too much is safer than too little.
 */
#ifndef GUARD_CREDIT_H
#define GUARD_CREDIT_H

#include "usage.h"

enum { CREDIT_NONE = -1 };

/* What the driver's handle for the memory says to whoever gets it. */
typedef struct credit_key {
  uint64_t words[8];
} credit_key;

/* Makes this process a holder of the credit with that key, once more if it is one.  bytes: what the credit must be for, 0: whatever it is.
 * What credit_drop gets, or CREDIT_NONE: there is no such credit. */
int credit_hold(guard_usage *usage, const credit_key *key, uint64_t bytes);
/* Makes a credit of bytes that this process is charged for.  When one with that key is there already: who exports knows that it is for other
 * memory, of the same name, and takes its key away; who imports joins its holders, and the charge is given back.  CREDIT_NONE: the charge
 * stays as it is. */
enum credit_role { CREDIT_EXPORT, CREDIT_IMPORT };
int credit_make(guard_usage *usage, enum credit_role role, const credit_key *key, uint64_t bytes);
/* Lets go once.  Cannot fail: what the file does not take now it takes later. */
void credit_drop(guard_usage *usage, int credit);
/* The key and bytes of a credit that this process holds. */
void credit_tell(guard_usage *usage, int credit, credit_key *key, uint64_t *bytes);

/* Internal to usage*.c, with usage->lock held. */

/* One credit as this process holds it. */
struct usage_credit {
  uint32_t references; /* 0 and bytes: to be let go of */
  uint32_t generation;
  int index;      /* in the file; CREDIT_NONE: it was lost, and is part of held */
  uint64_t bytes; /* 0: a free place */
  credit_key key;
};

/* Takes a dead process's slot off all credits; false while others change them: the slot has to stay. */
bool credit_bury(guard_usage *usage, uint32_t slot);
/* A fresh slot: the credits that this process holds are its. */
void credit_publish(guard_usage *usage);
/* Lets go of what could not be let go of before. */
void credit_settle(guard_usage *usage);
/* Credits below this index may be in use. */
uint32_t credit_count(const guard_usage *usage);
/* What a recount has to add up: a credit's bytes, and what tells it from another one of equal size. */
uint64_t credit_bytes(const guard_usage *usage, uint32_t index, uint64_t *mark);
/* The slot of the living process that a credit is put down to; HAMI_USAGE_SLOTS: none. */
uint32_t credit_payer(const guard_usage *usage, uint32_t index);

#endif
