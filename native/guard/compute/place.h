/* Where launches go: a context, its device's shares, its meter.
 *
 * A table of fixed size that only grows; an entry whose context died is taken by the next.  Threads remember their entry, and see by
 * its context that it is still theirs.
 */
#ifndef GUARD_PLACE_H
#define GUARD_PLACE_H

#include "cuda_api.h"
#include "meter.h"
#include "share.h"

struct compute_place {
  CUcontext context;         /* NULL: free */
  hami_usage_header *header; /* of `share`; a page of our own while its usage file cannot be used */
  hami_usage_slot *slot;     /* this process's; NULL while it has none */
  share_set shares;          /* of the device */
  unsigned share;            /* the one that pays for now */
  bool overdue;              /* a launch takes far longer than expected */
  uint64_t phase_ns;
  uint64_t joined_ns;  /* when header and slot were last looked up */
  uint64_t guessed_ns; /* when a launch was last charged without any measure */
  hami_usage_header own;
  meter meter;
};

/* First use of the process, or of a forked child. */
void place_reset(void);
/* The place of the current context, or of the stream's where that may differ; NULL: no share, or no context.  known: what this
 * thread was told last. */
struct compute_place *place_of(CUstream stream, struct compute_place *known);
void place_forget(CUcontext context);
/* Looks up header and slot again when it is time. */
void place_join(struct compute_place *place, uint64_t coarse_ns);
/* Of several shares of one device lets another one pay, when this one has nothing left. */
void place_pick(struct compute_place *place);

static inline hami_usage_header *place_header(struct compute_place *place) {
  return __atomic_load_n(&place->header, __ATOMIC_RELAXED);
}

static inline hami_usage_slot *place_slot(struct compute_place *place) {
  return __atomic_load_n(&place->slot, __ATOMIC_RELAXED);
}

static inline unsigned place_share(struct compute_place *place) {
  return __atomic_load_n(&place->share, __ATOMIC_RELAXED);
}

#endif
