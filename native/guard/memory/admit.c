#include "admit.h"

#include <stdatomic.h>
#include <string.h>

#include "graph.h"
#include "imports.h"
#include "overhead.h"
#include "pool.h"

void admit_reclaim(CUdevice device) {
  pool_trim(device);
  graph_trim(device);
  overhead_measure_sometimes(device);
}

static CUresult admit_to(struct admission *admission, share_set shares, uint64_t bytes) {
  int share = share_reserve(shares, bytes);
  if (share < 0) {
    admit_reclaim(admission->place.device);
    share = share_reserve(shares, bytes);
  }
  if (share < 0) return CUDA_ERROR_OUT_OF_MEMORY;
  admission->charged = true;
  admission->share = (unsigned)share;
  return CUDA_SUCCESS;
}

CUresult admit_shares(CUdevice device, share_set *out) {
  *out = 0;
  for (int healed = 0; healed < 2; healed++) {
    bool known = device_shares(device, out);
    if (known && (*out != 0 || !share_is_any_broken())) return CUDA_SUCCESS;
    share_heal();
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult admit_quietly(struct admission *admission, const struct device_place *place, uint64_t bytes) {
  share_set shares;
  *admission = (struct admission){.charged = false, .bytes = bytes, .place = *place};
  CUresult result = admit_shares(place->device, &shares);
  return result == CUDA_SUCCESS && shares != 0 ? admit_to(admission, shares, bytes) : result;
}

CUresult admit(struct admission *admission, const struct device_place *place, uint64_t bytes) {
  share_set shares;
  CUresult result = admit_quietly(admission, place, bytes);
  if (result != CUDA_SUCCESS && device_shares(place->device, &shares)) share_count_refusal(shares);
  return result;
}

void admit_cancel(struct admission *admission) {
  if (admission->charged) share_release(admission->share, admission->bytes);
  admission->charged = false;
}

bool admit_resize(struct admission *admission, uint64_t bytes) {
  if (admission->charged && bytes < admission->bytes) share_release(admission->share, admission->bytes - bytes);
  if (admission->charged && bytes > admission->bytes &&
      share_reserve((share_set)1 << admission->share, bytes - admission->bytes) < 0) {
    return false;
  }
  admission->bytes = bytes;
  return true;
}

void admit_refund(const ledger_entry *entry) {
  if (entry->account == ACCOUNT_POOL) {
    pool_freed((CUmemoryPool)(uintptr_t)entry->owner, entry->bytes);
  } else if (entry->account == ACCOUNT_MANAGED) {
    share_release_managed(entry->share, entry->bytes);
  } else if (entry->account == ACCOUNT_IMPORT || entry->account == ACCOUNT_JOINT) {
    import_refund(entry);
  } else if (entry->account == ACCOUNT_CREDIT) {
    share_credit_drop(entry->share, (int)entry->bytes);
  } else if (entry->account == ACCOUNT_EXTERNAL) {
    import_unmapped(entry);
  } else if (entry->bytes != 0) {
    share_release(entry->share, entry->bytes);
  }
}

bool admit_remember(const ledger_entry *entry) {
  ledger_entry old;
  if (!ledger_put(entry, &old)) return false;
  if (old.kind != LEDGER_NONE) admit_refund(&old); /* the driver gave the same address again: the old piece was gone */
  return true;
}

static bool keep(struct admission *admission, enum ledger_kind kind, uint64_t key) {
  if (!admission->charged) return true;
  ledger_entry entry = {
      .key = key,
      .bytes = admission->bytes,
      .owner = admission->place.owner,
      .references = 1,
      .share = (uint16_t)admission->share,
      .kind = (uint8_t)kind,
  };
  if (admit_remember(&entry)) return true;
  admit_cancel(admission);
  return false;
}

CUresult admit_settle(struct admission *admission, CUresult result, enum ledger_kind kind, uint64_t key,
                      admit_undo *undo) {
  if (result != CUDA_SUCCESS) {
    admit_cancel(admission);
  } else if (!keep(admission, kind, key)) {
    undo(key);
    result = CUDA_ERROR_OUT_OF_MEMORY;
  }
  return result;
}

struct refund refund_begin(enum ledger_kind kind, uint64_t key) {
  struct refund refund;
  refund.found = ledger_take(kind, key, &refund.entry);
  return refund;
}

CUresult refund_end(const struct refund *refund, CUresult result) {
  ledger_entry replaced;
  if (refund->found && result == CUDA_SUCCESS) admit_refund(&refund->entry);
  if (refund->found && result != CUDA_SUCCESS) (void)ledger_put(&refund->entry, &replaced);
  return result;
}

uint64_t admit_estate(uint64_t owner) {
  static atomic_uint_fast64_t last;
  uint64_t estate = atomic_fetch_add(&last, 1) | LEDGER_ESTATE;
  ledger_bequeath(owner, estate);
  return estate;
}

void admit_estate_settle(uint64_t estate, uint64_t owner, bool ended) {
  static const enum ledger_kind kinds[] = {LEDGER_POINTER, LEDGER_ARRAY, LEDGER_IPC};
  ledger_entry entry;
  if (!ended) ledger_bequeath(estate, owner);
  for (unsigned i = 0; ended && i < sizeof kinds / sizeof kinds[0]; i++) {
    while (ledger_take_owned(kinds[i], estate, &entry)) admit_refund(&entry);
  }
}
