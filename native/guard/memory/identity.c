#include "identity.h"

#include <stdatomic.h>
#include <stdint.h>

#include "driver.h"
#include "prim.h"

enum { STRANGER, LOOKING, UNLISTED, AMBIGUOUS, KNOWN };

static _Atomic int state;
static _Atomic unsigned int own;
static unsigned int others[IDENTITY_MOST]; /* before our first context; whoever made the state LOOKING owns it */
static unsigned int other_count;

void identity_reset(void) { atomic_store(&state, STRANGER); }

bool identity_list(nvmlDevice_t device, nvmlProcessInfo_t *infos, unsigned int *count) {
  __typeof__(&nvmlDeviceGetComputeRunningProcesses_v3) list = REAL(nvmlDeviceGetComputeRunningProcesses_v3);
  *count = IDENTITY_MOST;
  return list != NULL && infos != NULL && list(device, count, infos) == NVML_SUCCESS;
}

void identity_before(nvmlDevice_t device) {
  int expected = STRANGER;
  if (!atomic_compare_exchange_strong(&state, &expected, LOOKING)) return;
  nvmlProcessInfo_t *infos = prim_pages(IDENTITY_MOST * sizeof *infos);
  bool listed = identity_list(device, infos, &other_count);
  for (unsigned int i = 0; listed && i < other_count; i++) others[i] = infos[i].pid;
  prim_unmap(infos, IDENTITY_MOST * sizeof *infos);
  if (!listed) atomic_store(&state, STRANGER);
}

static bool was_there(unsigned int pid) {
  for (unsigned int i = 0; i < other_count; i++) {
    if (others[i] == pid) return true;
  }
  return false;
}

/* Whoever is new. */
static int find_new(const nvmlProcessInfo_t *infos, unsigned int count, unsigned int *found) {
  unsigned int fresh = 0, self = (unsigned int)prim_pid();
  for (unsigned int i = 0; i < count; i++) {
    if (was_there(infos[i].pid)) continue;
    fresh++;
    *found = infos[i].pid;
    if (infos[i].pid == self) return KNOWN;
  }
  return fresh == 0 ? UNLISTED : fresh == 1 ? KNOWN : AMBIGUOUS;
}

void identity_after(nvmlDevice_t device, bool created) {
  unsigned int count, found = 0;
  if (atomic_load(&state) != LOOKING) return;
  nvmlProcessInfo_t *infos = created ? prim_pages(IDENTITY_MOST * sizeof *infos) : NULL;
  int now = identity_list(device, infos, &count) ? find_new(infos, count, &found) : STRANGER;
  prim_unmap(infos, IDENTITY_MOST * sizeof *infos);
  atomic_store(&own, found);
  atomic_store(&state, now);
}

bool identity_is(unsigned int pid) { return atomic_load(&state) == KNOWN && atomic_load(&own) == pid; }

bool identity_is_ambiguous(void) { return atomic_load(&state) == AMBIGUOUS; }
