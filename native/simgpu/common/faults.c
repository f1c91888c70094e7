#include "faults.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "instance_word.h"
#include "lock.h"
#include "mig.h"

/* CUresult, of which this file must not know the header. */
enum { CUDA_ECC_UNCORRECTABLE = 214, CUDA_ILLEGAL_ADDRESS = 700, CUDA_LAUNCH_FAILED = 719, CUDA_UNKNOWN = 999 };

#define XID_EVENT UINT64_C(8) /* nvmlEventTypeXidCriticalError */
#define XID_LOST 79u

static bool read_at(const sim_store *store, void *into, size_t size, size_t offset) {
  ssize_t got = pread(store->fd, into, size, (off_t)offset);
  if (got == (ssize_t)size) return true;
  memset(into, 0, size);
  return false;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

void sim_event_post(sim_session *session, uint32_t card, uint64_t type, uint64_t data, uint32_t instance) {
  sim_state *state = session->store.map;
  sim_event_ring *ring = &state->node.events;
  uint64_t number = ring->next;
  sim_event *event = &ring->events[number % SIM_EVENTS];
  *event = (sim_event){
      .card = card, .type = type, .data = data, .gpu_instance = SIM_NO_INSTANCE, .compute_instance = SIM_NO_INSTANCE};
  const sim_gpu_instance *of = &state->conditions[card].mig.instances[sim_instance_place(instance)];
  const sim_geometry *geometry = sim_geometry_of(&state->cards[card]);
  if (instance != 0 && geometry != NULL && of->size > 0 && of->size <= 8) {
    event->gpu_instance = sim_instance_id(geometry, of->start, of->size);
    event->compute_instance = instance & 0xff;
  }
  __atomic_store_n(&event->number, number, __ATOMIC_RELEASE);
  __atomic_store_n(&ring->next, number + 1, __ATOMIC_RELEASE);
  __atomic_store_n(&ring->bell, (uint32_t)(number + 1), __ATOMIC_RELEASE);
  syscall(SYS_futex, &ring->bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

bool sim_event_read(const sim_store *store, uint64_t number, sim_event *event) {
  size_t place = offsetof(sim_state, node.events.events) + number % SIM_EVENTS * sizeof *event;
  return read_at(store, event, sizeof *event, place) && event->number == number && event->card < SIM_MAX_CARDS;
}

uint64_t sim_event_next(const sim_store *store) {
  uint64_t next;
  read_at(store, &next, sizeof next, offsetof(sim_state, node.events.next));
  return next;
}

void sim_event_sleep(const sim_state *map, uint64_t number, uint64_t nanoseconds) {
  const struct timespec limit = {.tv_sec = (time_t)(nanoseconds / 1000000000u),
                                 .tv_nsec = (long)(nanoseconds % 1000000000u)};
  int kept = errno;
  /* The kernel looks at the word: a file cut short makes this fail, not crash. */
  syscall(SYS_futex, &map->node.events.bell, FUTEX_WAIT, (uint32_t)number, &limit, NULL, 0);
  errno = kept;
}

/* ---- errors of applications -------------------------------------------------------------------------------------- */

/* What NVIDIA's "XID errors" says that the application sees; 0: it goes on. */
static uint16_t error_of(uint32_t xid) {
  switch (xid) {
    case 13:
    case 43:
    case 45: return CUDA_LAUNCH_FAILED;
    case 31: return CUDA_ILLEGAL_ADDRESS;
    case 48:
    case 94:
    case 95: return CUDA_ECC_UNCORRECTABLE;
    case XID_LOST: return CUDA_UNKNOWN;
    default: return 0;
  }
}

static bool uses(const sim_slot *slot, uint32_t card) {
  return slot->state != 0 && (slot->cards[card].contexts > 0 || slot->cards[card].used_bytes > 0);
}

uint32_t sim_fault_xid(sim_session *session, uint32_t card, uint32_t xid, pid_t pid) {
  sim_state *state = session->store.map;
  uint32_t hit = 0;
  uint32_t instance = 0;
  for (uint32_t i = 0; i < SIM_MAX_SLOTS; i++) {
    sim_slot *slot = &state->slots[i];
    pid_t its = 0;
    if (!uses(slot, card) || !sim_slot_owner(session->store.fd, i, &its)) continue;
    if (pid != 0 && pid != (its != 0 ? its : slot->pid)) continue;
    hit++;
    if (pid != 0) instance = slot->instance;
    if (error_of(xid) != 0) __atomic_store_n(&slot->faults[card], error_of(xid), __ATOMIC_RELAXED);
  }
  if (pid == 0 || hit > 0) sim_event_post(session, card, XID_EVENT, xid, instance);
  return hit;
}

void sim_fault_presence(sim_session *session, uint32_t card, uint32_t presence) {
  uint32_t *here = &session->store.map->conditions[card].faults.presence;
  bool lost = *here == SIM_PRESENT && presence != SIM_PRESENT;
  __atomic_store_n(here, presence, __ATOMIC_RELEASE);
  if (lost) sim_fault_xid(session, card, XID_LOST, 0);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

sim_faults sim_faults_read(const sim_store *store, uint32_t card) {
  sim_faults faults;
  read_at(store, &faults, sizeof faults,
          offsetof(sim_state, conditions) + card * sizeof(sim_condition) + offsetof(sim_condition, faults));
  return faults;
}

sim_driver_state sim_driver_read(const sim_store *store) {
  sim_driver_state driver;
  read_at(store, &driver, sizeof driver, offsetof(sim_state, node.driver));
  driver.library_version[sizeof driver.library_version - 1] = '\0';
  return driver;
}
