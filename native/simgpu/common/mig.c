#include "mig.h"

#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "capability.h"
#include "faults.h"
#include "lock.h"

#define READ_ATTEMPTS 200

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static bool read_condition(const sim_store *store, uint32_t index, sim_condition *copy) {
  size_t offset = offsetof(sim_state, conditions) + index * sizeof *copy;
  return pread(store->fd, copy, sizeof *copy, (off_t)offset) == (ssize_t)sizeof *copy;
}

static uint32_t sequence_of(const sim_store *store) {
  uint32_t sequence = 1;
  if (pread(store->fd, &sequence, sizeof sequence, offsetof(sim_header, sequence)) != (ssize_t)sizeof sequence)
    return 1;
  return sequence;
}

/* Forgets instances that cannot be: damage, or a change that was read half way. */
static void sanitize(const sim_geometry *geometry, sim_mig *mig) {
  if (geometry == NULL) memset(mig, 0, sizeof *mig);
  mig->enabled = mig->enabled != 0;
  mig->pending = mig->pending != 0;
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
    sim_gpu_instance *instance = &mig->instances[i];
    const sim_profile *profile = sim_profile_find(geometry, instance->profile, false);
    sim_compute_profile compute;
    if (instance->serial == 0 || profile == NULL || instance->size != profile->size || instance->start >= 8 ||
        (profile->starts >> instance->start & 1) == 0) {
      memset(instance, 0, sizeof *instance);
      continue;
    }
    for (uint32_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++) {
      sim_compute_instance *part = &instance->compute[j];
      if (part->serial == 0 || !sim_compute_profile_find(geometry, profile, part->profile, &compute) ||
          part->slices != compute.slices || part->start >= 8 || (compute.starts >> part->start & 1) == 0)
        memset(part, 0, sizeof *part);
    }
  }
}

sim_status sim_condition_read(const sim_store *store, const sim_card *card, uint32_t index, sim_condition *copy) {
  for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
    uint32_t before = sequence_of(store);
    if (!read_condition(store, index, copy)) return SIM_INVALID;
    if (before % 2 == 0 && before == sequence_of(store)) break;
  }
  sanitize(sim_geometry_of(card), &copy->mig);
  return SIM_OK;
}

/* ---- placements -------------------------------------------------------------------------------------------------- */

static uint32_t bits(uint32_t start, uint32_t size) { return ((1u << size) - 1u) << start; }

bool sim_mig_fits(const sim_geometry *geometry, const sim_mig *mig, const sim_profile *profile, uint32_t start) {
  uint32_t taken = 0;
  uint32_t slices = 0;
  uint32_t alike = 0;
  uint32_t count = 0;
  if (start >= geometry->memory_slices || (profile->starts >> start & 1) == 0) return false;
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
    const sim_gpu_instance *instance = &mig->instances[i];
    if (instance->serial == 0) continue;
    const sim_profile *of = sim_profile_find(geometry, instance->profile, false);
    taken |= bits(instance->start, instance->size);
    slices += of != NULL ? of->slices : 0;
    alike += instance->profile == profile->number;
    count++;
  }
  return (taken & bits(start, profile->size)) == 0 && slices + profile->slices <= geometry->compute_slices &&
         alike < profile->instances && count < SIM_MAX_GPU_INSTANCES;
}

static void place(sim_mig *mig, const sim_profile *profile, uint32_t start) {
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
    if (mig->instances[i].serial != 0) continue;
    mig->instances[i] =
        (sim_gpu_instance){.serial = 1, .profile = profile->number, .start = start, .size = profile->size};
    return;
  }
}

uint32_t sim_mig_capacity(const sim_geometry *geometry, const sim_mig *mig, const sim_profile *profile) {
  sim_mig filled = *mig;
  uint32_t count = 0;
  /* Placements of one profile never overlap each other in part, so the order in which they are filled is all one. */
  for (uint32_t start = 0; start < geometry->memory_slices; start++) {
    if (!sim_mig_fits(geometry, &filled, profile, start)) continue;
    place(&filled, profile, start);
    count++;
  }
  return count;
}

/* The start that leaves most: the sum over all profiles of slices that could still be had, lowest start first. */
static uint32_t best_start(const sim_geometry *geometry, const sim_mig *mig, const sim_profile *profile) {
  uint32_t best = SIM_ANYWHERE;
  uint32_t most = 0;
  for (uint32_t start = 0; start < geometry->memory_slices; start++) {
    if (!sim_mig_fits(geometry, mig, profile, start)) continue;
    sim_mig after = *mig;
    uint32_t left = 1;
    place(&after, profile, start);
    for (uint32_t i = 0; i < geometry->profile_count; i++)
      left += sim_mig_capacity(geometry, &after, &geometry->profiles[i]) * geometry->profiles[i].size;
    if (left <= most) continue;
    most = left;
    best = start;
  }
  return best;
}

bool sim_compute_fits(const sim_gpu_instance *instance, const sim_compute_profile *profile, uint32_t start) {
  uint32_t taken = 0;
  if (start >= 8 || (profile->starts >> start & 1) == 0) return false;
  for (uint32_t i = 0; i < SIM_MAX_COMPUTE_INSTANCES; i++)
    if (instance->compute[i].serial != 0) taken |= bits(instance->compute[i].start, instance->compute[i].slices);
  return (taken & bits(start, profile->slices)) == 0;
}

uint32_t sim_compute_capacity(const sim_gpu_instance *instance, const sim_compute_profile *profile) {
  uint32_t count = 0;
  for (uint32_t start = 0; start < 8; start++) count += sim_compute_fits(instance, profile, start);
  return count;
}

/* ---- changes ----------------------------------------------------------------------------------------------------- */

/* Takes the lock and a clean copy of the card's MIG state. */
static sim_mig_result begin(sim_session *session, const sim_card *card, uint32_t index, sim_mig *mig) {
  if (sim_geometry_of(card) == NULL) return SIM_MIG_NOT_SUPPORTED;
  if (sim_session_enter(session) != SIM_OK) return SIM_MIG_BROKEN;
  *mig = session->store.map->conditions[index].mig;
  sanitize(sim_geometry_of(card), mig);
  return SIM_MIG_DONE;
}

static sim_mig_result end(sim_session *session, sim_mig_result result) {
  sim_session_leave(session);
  return result;
}

#define MIG_CHANGED UINT64_C(0x100) /* nvmlEventMigConfigChange */

/* Ends a change that was made. */
static sim_mig_result end_changed(sim_session *session, uint32_t index) {
  sim_event_post(session, index, MIG_CHANGED, 0, 0);
  return end(session, SIM_MIG_DONE);
}

static bool any_instance(const sim_mig *mig) {
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
    if (mig->instances[i].serial != 0) return true;
  return false;
}

sim_mig_result sim_mig_set_mode(sim_session *session, const sim_card *card, uint32_t index, bool enable,
                                bool *activated) {
  sim_mig mig;
  sim_mig_result result = begin(session, card, index, &mig);
  if (result != SIM_MIG_DONE) return result;
  sim_mig *here = &session->store.map->conditions[index].mig;
  bool busy = sim_instance_busy(session, index, SIM_ALL, SIM_ALL) || (!enable && any_instance(&mig));
  *activated = enable == (mig.enabled != 0) || !busy;
  /* From Hopper on there is no reset to wait for: what cannot be now is not kept for later. */
  if (*activated || sim_geometry_of(card)->reset_needed) __atomic_store_n(&here->pending, enable, __ATOMIC_RELAXED);
  if (*activated) __atomic_store_n(&here->enabled, enable, __ATOMIC_RELAXED);
  return *activated ? end_changed(session, index) : end(session, SIM_MIG_DONE);
}

sim_mig_result sim_mig_create(sim_session *session, const sim_card *card, uint32_t index, uint32_t profile_id,
                              uint32_t start, uint32_t *where, uint32_t *serial) {
  sim_mig mig;
  const sim_geometry *geometry = sim_geometry_of(card);
  const sim_profile *profile = sim_profile_find(geometry, profile_id, true);
  sim_mig_result result = begin(session, card, index, &mig);
  if (result != SIM_MIG_DONE) return result;
  if (!mig.enabled) return end(session, SIM_MIG_NOT_SUPPORTED);
  if (profile == NULL || (start != SIM_ANYWHERE && (start >= 8 || (profile->starts >> start & 1) == 0)))
    return end(session, SIM_MIG_NO_SUCH);
  if (start == SIM_ANYWHERE) start = best_start(geometry, &mig, profile);
  if (start == SIM_ANYWHERE || !sim_mig_fits(geometry, &mig, profile, start)) return end(session, SIM_MIG_NO_ROOM);
  for (*where = 0; mig.instances[*where].serial != 0;) ++*where;
  sim_mig *here = &session->store.map->conditions[index].mig;
  sim_gpu_instance *instance = &here->instances[*where];
  *serial = ++here->serial != 0 ? here->serial : ++here->serial;
  memset(instance, 0, sizeof *instance);
  instance->profile = profile->number;
  instance->start = start;
  instance->size = profile->size;
  __atomic_store_n(&instance->serial, *serial, __ATOMIC_RELEASE);
  sim_capability_add(&session->store, card, sim_instance_id(geometry, start, profile->size), SIM_ALL);
  return end_changed(session, index);
}

static bool any_compute(const sim_gpu_instance *instance) {
  for (uint32_t i = 0; i < SIM_MAX_COMPUTE_INSTANCES; i++)
    if (instance->compute[i].serial != 0) return true;
  return false;
}

sim_mig_result sim_mig_destroy(sim_session *session, const sim_card *card, uint32_t index, uint32_t where,
                               uint32_t serial) {
  sim_mig mig;
  sim_mig_result result = begin(session, card, index, &mig);
  if (result != SIM_MIG_DONE) return result;
  const sim_gpu_instance *instance = &mig.instances[where];
  if (serial == 0 || instance->serial != serial) return end(session, SIM_MIG_NO_SUCH);
  if (any_compute(instance) || sim_instance_busy(session, index, where, SIM_ALL)) return end(session, SIM_MIG_IN_USE);
  __atomic_store_n(&session->store.map->conditions[index].mig.instances[where].serial, 0u, __ATOMIC_RELEASE);
  sim_capability_remove(&session->store, card, sim_instance_id(sim_geometry_of(card), instance->start, instance->size),
                        SIM_ALL);
  return end_changed(session, index);
}

sim_mig_result sim_compute_create(sim_session *session, const sim_card *card, uint32_t index, uint32_t where,
                                  uint32_t serial, uint32_t number, uint32_t start, uint32_t *id) {
  sim_mig mig;
  sim_compute_profile profile;
  const sim_geometry *geometry = sim_geometry_of(card);
  sim_mig_result result = begin(session, card, index, &mig);
  if (result != SIM_MIG_DONE) return result;
  const sim_gpu_instance *instance = &mig.instances[where];
  const sim_profile *of = sim_profile_find(geometry, instance->profile, false);
  if (serial == 0 || instance->serial != serial || of == NULL ||
      !sim_compute_profile_find(geometry, of, number, &profile) ||
      (start != SIM_ANYWHERE && (start >= 8 || (profile.starts >> start & 1) == 0)))
    return end(session, SIM_MIG_NO_SUCH);
  for (uint32_t i = 0; start == SIM_ANYWHERE && i < 8; i++)
    if (sim_compute_fits(instance, &profile, i)) start = i;
  if (start == SIM_ANYWHERE || !sim_compute_fits(instance, &profile, start)) return end(session, SIM_MIG_NO_ROOM);
  for (*id = 0; instance->compute[*id].serial != 0;) ++*id;
  sim_mig *here = &session->store.map->conditions[index].mig;
  sim_compute_instance *part = &here->instances[where].compute[*id];
  uint32_t fresh = ++here->serial != 0 ? here->serial : ++here->serial;
  part->profile = number;
  part->start = start;
  part->slices = profile.slices;
  __atomic_store_n(&part->serial, fresh, __ATOMIC_RELEASE);
  sim_capability_add(&session->store, card, sim_instance_id(geometry, instance->start, instance->size), *id);
  return end_changed(session, index);
}

sim_mig_result sim_compute_destroy(sim_session *session, const sim_card *card, uint32_t index, uint32_t where,
                                   uint32_t id, uint32_t serial) {
  sim_mig mig;
  sim_mig_result result = begin(session, card, index, &mig);
  if (result != SIM_MIG_DONE) return result;
  const sim_gpu_instance *instance = &mig.instances[where];
  if (serial == 0 || instance->compute[id].serial != serial) return end(session, SIM_MIG_NO_SUCH);
  if (sim_instance_busy(session, index, where, id)) return end(session, SIM_MIG_IN_USE);
  __atomic_store_n(&session->store.map->conditions[index].mig.instances[where].compute[id].serial, 0u,
                   __ATOMIC_RELEASE);
  sim_capability_remove(&session->store, card, sim_instance_id(sim_geometry_of(card), instance->start, instance->size),
                        id);
  return end_changed(session, index);
}

sim_mig_result sim_mig_reset(sim_session *session, const sim_card *card, uint32_t index) {
  sim_mig mig;
  sim_mig_result result = begin(session, card, index, &mig);
  if (result != SIM_MIG_DONE) return result;
  if (sim_instance_busy(session, index, SIM_ALL, SIM_ALL)) return end(session, SIM_MIG_IN_USE);
  sim_mig *here = &session->store.map->conditions[index].mig;
  for (uint32_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
    const sim_gpu_instance *instance = &mig.instances[i];
    __atomic_store_n(&here->instances[i].serial, 0u, __ATOMIC_RELEASE);
    if (instance->serial == 0) continue;
    uint32_t id = sim_instance_id(sim_geometry_of(card), instance->start, instance->size);
    for (uint32_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++)
      if (instance->compute[j].serial != 0) sim_capability_remove(&session->store, card, id, j);
    sim_capability_remove(&session->store, card, id, SIM_ALL);
  }
  __atomic_store_n(&here->enabled, mig.pending, __ATOMIC_RELAXED);
  return end_changed(session, index);
}

bool sim_mig_attach(sim_session *session, const sim_card *card, uint32_t index, uint32_t where, uint32_t id) {
  sim_mig mig;
  if (begin(session, card, index, &mig) != SIM_MIG_DONE) return false;
  const sim_gpu_instance *instance = &mig.instances[where];
  bool there = mig.enabled && instance->serial != 0 && instance->compute[id].serial != 0;
  if (there) {
    const sim_geometry *geometry = sim_geometry_of(card);
    session->instance_bytes = sim_profile_bytes(geometry, sim_profile_find(geometry, instance->profile, false), card);
    session->instance = sim_instance_word(index, where, id);
    __atomic_store_n(&session->store.map->slots[session->slot].instance, session->instance, __ATOMIC_RELAXED);
  }
  end(session, SIM_MIG_DONE);
  return there;
}

/* ---- what a MIG device is ---------------------------------------------------------------------------------------- */

/* FNV-1a over a text, with a finish that spreads the last characters over all bits. */
static uint64_t hash(const char *text, uint64_t seed) {
  uint64_t value = UINT64_C(0xcbf29ce484222325) ^ seed;
  for (; *text != '\0'; text++) value = (value ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
  value = (value ^ value >> 33) * UINT64_C(0xff51afd7ed558ccd);
  return value ^ value >> 33;
}

void sim_mig_uuid(const sim_card *card, const sim_gpu_instance *instance, uint32_t id, char uuid[48]) {
  char text[128];
  const sim_compute_instance *part = &instance->compute[id];
  snprintf(text, sizeof text, "%s/%u/%u:%u/%u/%u:%u", card->uuid, instance->profile, instance->start, instance->size,
           id, part->start, part->slices);
  uint64_t high = hash(text, 0);
  uint64_t low = hash(text, UINT64_C(0x9e3779b97f4a7c15));
  /* RFC 9562, version 8: a hash of our own. */
  snprintf(uuid, 48, "MIG-%08x-%04x-8%03x-%04x-%012llx", (unsigned)(high >> 32), (unsigned)(high >> 16 & 0xffff),
           (unsigned)(high & 0xfff), (unsigned)(low >> 48 & 0x3fff) | 0x8000u,
           (unsigned long long)(low & UINT64_C(0xffffffffffff)));
}

void sim_mig_facts(sim_card *facts, const sim_gpu_instance *instance, uint32_t id) {
  const sim_geometry *geometry = sim_geometry_of(facts);
  const sim_profile *profile = sim_profile_find(geometry, instance->profile, false);
  sim_compute_profile compute;
  char name[sizeof facts->name];
  if (profile == NULL || !sim_compute_profile_find(geometry, profile, instance->compute[id].profile, &compute)) return;
  snprintf(name, sizeof name, "%.50s MIG %s", facts->name, compute.name);
  memcpy(facts->name, name, sizeof facts->name);
  sim_mig_uuid(facts, instance, id, name);
  memcpy(facts->uuid, name, sizeof facts->uuid);
  facts->memory_bytes = sim_profile_bytes(geometry, profile, facts);
  facts->sm_count = compute.multiprocessors;
}
