/* What this process was charged for: one entry per piece of device memory, found again when it is freed.
 *
 * Open addressing in pages of its own (no malloc: programs hook that too), in shards so that threads do not meet.  Keys of
 * different kinds may have equal numbers.
 */
#ifndef GUARD_LEDGER_H
#define GUARD_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

enum ledger_kind {
  LEDGER_NONE = 0,
  LEDGER_POINTER,    /* CUdeviceptr, whatever allocated it */
  LEDGER_HANDLE,     /* CUmemGenericAllocationHandle */
  LEDGER_ARRAY,      /* CUarray, CUmipmappedArray */
  LEDGER_MAPPING,    /* an address range: which handle lies behind it; nothing is charged for it */
  LEDGER_CONTEXT,    /* CUcontext: what the driver took for it; charged as overhead */
  LEDGER_POOL,       /* CUmemoryPool: share is its place in the table of pools; nothing is charged for it */
  LEDGER_IPC,        /* CUdeviceptr of an opened handle */
  LEDGER_IMPORT,     /* the charge for an external memory object, by a name of its own */
  LEDGER_EXTERNAL,   /* CUexternalMemory: its owner is that name; nothing is charged for it */
  LEDGER_GRAPH,      /* CUgraphExec that allocates: owner is the set of its devices; graph.c has the account */
  LEDGER_GRAPH_PART, /* the same on one device, see graph.c */
};

/* Who keeps account of an entry's bytes. */
enum ledger_account {
  ACCOUNT_SHARE = 0, /* the share */
  ACCOUNT_POOL,      /* the pool that is its owner */
  ACCOUNT_MANAGED,   /* the share, as managed memory beyond its part of the card */
  ACCOUNT_IMPORT,    /* the share, as memory of others */
  ACCOUNT_CREDIT,    /* a credit of the share (credit.h), which its bytes name: memory that was exported */
  ACCOUNT_JOINT,     /* the same, as memory of others */
  ACCOUNT_EXTERNAL,  /* the LEDGER_IMPORT whose key its bytes are */
};

typedef struct ledger_entry {
  uint64_t key;
  uint64_t bytes;      /* charged, or the length of a mapping */
  uint64_t owner;      /* CUcontext that the memory dies with, the handle of a mapping, or a pool; 0: none */
  uint32_t references; /* to a handle: its own and those of its mappings */
  uint16_t share;
  uint8_t kind;    /* enum ledger_kind */
  uint8_t account; /* enum ledger_account */
} ledger_entry;

/* Set in owners that are an estate: of a dying owner, whose memory the driver is about to free.  No driver's object has such an
 * address. */
#define LEDGER_ESTATE ((uint64_t)1 << 63)

/* Forgets all; for the first use and for a forked child. */
void ledger_reset(void);
/* False when there is no memory for another entry.  An entry of the same kind and key is replaced and handed out in *old, whose
 * kind is LEDGER_NONE otherwise.  A pointer or array of an estate stays, under a key of its own: that its address is another's already
 * does not mean that the driver has let go of what lay there. */
bool ledger_put(const ledger_entry *entry, ledger_entry *old);
/* Removes an entry; false when it is unknown. */
bool ledger_take(enum ledger_kind kind, uint64_t key, ledger_entry *out);
/* Reads an entry; false when it is unknown. */
bool ledger_get(enum ledger_kind kind, uint64_t key, ledger_entry *out);
/* Adds to an entry's references and returns the new number; UINT32_MAX when it is unknown. */
uint32_t ledger_refer(enum ledger_kind kind, uint64_t key, int32_t change);
/* Makes an entry's charge that of *charge if that is more; what the entry does not have is in *charge afterwards. */
void ledger_raise(enum ledger_kind kind, uint64_t key, ledger_entry *charge);
/* Makes an entry's bytes and account those of *to, if they still are those of *from. */
bool ledger_change(const ledger_entry *from, const ledger_entry *to);
/* Gives what belongs to an owner to another one.  Looks at all entries. */
void ledger_bequeath(uint64_t from, uint64_t to);
/* Removes some entry of the kind with this owner; false when there is none (left).  Looks at all entries. */
bool ledger_take_owned(enum ledger_kind kind, uint64_t owner, ledger_entry *out);
/* Removes some entry of the kind with from <= key < to; false when there is none (left).  Looks at all entries. */
bool ledger_take_between(enum ledger_kind kind, uint64_t from, uint64_t to, ledger_entry *out);

#endif
