#include "profile.h"

#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define FIRST(n) ((1u << (n)) - 1u)
#define EVEN(n) (0x55u & FIRST(n)) /* 0, 2, 4, ... below n */

/* Name, number, id, slices, instances; processors, copy engines, decoders, JPEG, OFA; MiB, memory slices, starts. */
static const sim_profile A30[] = {
    {"1g.6gb", 0, 14, 1, 4, 14, 1, 0, 0, 0, 5952, 1, FIRST(4)},
    {"2g.12gb", 1, 5, 2, 2, 28, 2, 2, 0, 0, 11968, 2, EVEN(4)},
    {"4g.24gb", 3, 0, 4, 1, 56, 4, 4, 1, 1, 24000, 4, FIRST(1)},
    {"1g.6gb+me", 7, 21, 1, 1, 14, 1, 1, 1, 1, 5952, 1, FIRST(4)},
    {"2g.12gb+me", 8, 6, 2, 1, 28, 2, 2, 1, 1, 11968, 2, EVEN(4)},
};
static const sim_profile A100_40[] = {
    {"1g.5gb", 0, 19, 1, 7, 14, 1, 0, 0, 0, 4864, 1, FIRST(7)},
    {"2g.10gb", 1, 14, 2, 3, 28, 2, 1, 0, 0, 9856, 2, EVEN(6)},
    {"3g.20gb", 2, 9, 3, 2, 42, 3, 2, 0, 0, 19968, 4, 0x11},
    {"4g.20gb", 3, 5, 4, 1, 56, 4, 2, 0, 0, 19968, 4, FIRST(1)},
    {"7g.40gb", 4, 0, 7, 1, 98, 7, 5, 1, 1, 40192, 8, FIRST(1)},
    {"1g.5gb+me", 7, 20, 1, 1, 14, 1, 1, 1, 1, 4864, 1, FIRST(7)},
    {"1g.10gb", 9, 15, 1, 4, 14, 1, 1, 0, 0, 9856, 2, EVEN(8)},
};
static const sim_profile A100_80[] = {
    {"1g.10gb", 0, 19, 1, 7, 14, 1, 0, 0, 0, 9856, 1, FIRST(7)},
    {"2g.20gb", 1, 14, 2, 3, 28, 2, 1, 0, 0, 19968, 2, EVEN(6)},
    {"3g.40gb", 2, 9, 3, 2, 42, 3, 2, 0, 0, 40192, 4, 0x11},
    {"4g.40gb", 3, 5, 4, 1, 56, 4, 2, 0, 0, 40192, 4, FIRST(1)},
    {"7g.80gb", 4, 0, 7, 1, 98, 7, 5, 1, 1, 80384, 8, FIRST(1)},
    {"1g.10gb+me", 7, 20, 1, 1, 14, 1, 1, 1, 1, 9856, 1, FIRST(7)},
    {"1g.20gb", 9, 15, 1, 4, 14, 1, 1, 0, 0, 19968, 2, EVEN(8)},
};
static const sim_profile H100_80[] = {
    {"1g.10gb", 0, 19, 1, 7, 16, 1, 1, 1, 0, 9984, 1, FIRST(7)},
    {"2g.20gb", 1, 14, 2, 3, 32, 2, 2, 2, 0, 20096, 2, EVEN(6)},
    {"3g.40gb", 2, 9, 3, 2, 60, 3, 3, 3, 0, 40448, 4, 0x11},
    {"4g.40gb", 3, 5, 4, 1, 64, 4, 4, 4, 0, 40448, 4, FIRST(1)},
    {"7g.80gb", 4, 0, 7, 1, 132, 8, 7, 7, 1, 81152, 8, FIRST(1)},
    {"1g.10gb+me", 7, 20, 1, 1, 16, 1, 1, 1, 1, 9984, 1, FIRST(7)},
    {"1g.20gb", 9, 15, 1, 4, 26, 1, 1, 1, 0, 20096, 2, EVEN(8)},
};
static const sim_profile H200[] = {
    {"1g.18gb", 0, 19, 1, 7, 16, 1, 1, 1, 0, 16384, 1, FIRST(7)},
    {"2g.35gb", 1, 14, 2, 3, 32, 2, 2, 2, 0, 33280, 2, EVEN(6)},
    {"3g.71gb", 2, 9, 3, 2, 60, 3, 3, 3, 0, 71168, 4, 0x11},
    {"4g.71gb", 3, 5, 4, 1, 64, 4, 4, 4, 0, 71168, 4, FIRST(1)},
    {"7g.141gb", 4, 0, 7, 1, 132, 8, 7, 7, 1, 143360, 8, FIRST(1)},
    {"1g.18gb+me", 7, 20, 1, 1, 16, 1, 1, 1, 1, 16384, 1, FIRST(7)},
    {"1g.35gb", 9, 15, 1, 4, 26, 1, 1, 1, 0, 33280, 2, EVEN(8)},
};
static const sim_profile B200[] = {
    {"1g.23gb", 0, 19, 1, 7, 18, 2, 1, 1, 0, 22144, 1, FIRST(7)},
    {"2g.45gb", 1, 14, 2, 3, 36, 3, 1, 1, 0, 45312, 2, EVEN(6)},
    {"3g.90gb", 2, 9, 3, 2, 70, 6, 1, 1, 0, 90880, 4, 0x11},
    {"4g.90gb", 3, 5, 4, 1, 72, 8, 1, 1, 0, 90880, 4, FIRST(1)},
    {"7g.180gb", 4, 0, 7, 1, 148, 16, 1, 1, 1, 182272, 8, FIRST(1)},
    {"1g.23gb+me", 7, 20, 1, 1, 18, 2, 1, 1, 1, 22144, 1, FIRST(7)},
    {"1g.45gb", 9, 15, 1, 4, 30, 2, 1, 1, 0, 45312, 2, EVEN(8)},
};

#define PROFILES(table) (uint32_t)(sizeof(table) / sizeof *(table)), table

static const sim_geometry GEOMETRIES[] = {
    {"A30", 4, 4, 24576, true, PROFILES(A30)},      {"A100-40", 7, 8, 40960, true, PROFILES(A100_40)},
    {"A100", 7, 8, 81920, true, PROFILES(A100_80)}, {"H100", 7, 8, 81559, false, PROFILES(H100_80)},
    {"H200", 7, 8, 143771, false, PROFILES(H200)},  {"B200", 7, 8, 183359, false, PROFILES(B200)},
};

const sim_geometry *sim_geometry_of(const sim_card *card) {
  if (card->mig_supported == 0) return NULL;
  for (size_t i = 0; i < sizeof GEOMETRIES / sizeof *GEOMETRIES; i++)
    if (strcmp(GEOMETRIES[i].model, card->model) == 0) return &GEOMETRIES[i];
  return NULL;
}

const sim_profile *sim_profile_find(const sim_geometry *geometry, uint32_t key, bool by_id) {
  for (uint32_t i = 0; geometry != NULL && i < geometry->profile_count; i++)
    if ((by_id ? geometry->profiles[i].id : geometry->profiles[i].number) == key) return &geometry->profiles[i];
  return NULL;
}

uint64_t sim_profile_bytes(const sim_geometry *geometry, const sim_profile *profile, const sim_card *card) {
  /* In MiB, as NVML counts: a product of two numbers below 2^31. */
  uint64_t mib = card->memory_bytes / MIB * profile->memory_mib / geometry->memory_mib;
  return mib * MIB;
}

uint32_t sim_instance_id(const sim_geometry *geometry, uint32_t start, uint32_t size) {
  /* Numbers the nodes of the binary tree over the memory slices: the whole card is 0, its halves are 1 and 2. */
  return geometry->memory_slices / size - 1 + start / size;
}

/* Compute slices of a profile number; 0 for those that no geometry has. */
static uint32_t compute_slices(uint32_t number) {
  static const uint32_t SLICES[] = {1, 2, 3, 4, 7};
  return number < sizeof SLICES / sizeof *SLICES ? SLICES[number] : 0;
}

/* Where `slices` compute slices may begin among `all`. */
static uint32_t compute_starts(uint32_t slices, uint32_t all) {
  if (slices == all || slices > 4) return FIRST(1);
  uint32_t starts = 0;
  uint32_t step = slices == 3 ? 4 : slices;
  for (uint32_t start = 0; start + slices <= all; start += step) starts |= 1u << start;
  return starts;
}

bool sim_compute_profile_find(const sim_geometry *geometry, const sim_profile *profile, uint32_t number,
                              sim_compute_profile *found) {
  uint32_t slices = compute_slices(number);
  bool whole = slices == profile->slices;
  /* Four slices are not cut into three and one. */
  if (slices == 0 || slices > profile->slices || (slices == 3 && profile->slices == 4)) return false;
  const sim_profile *single = sim_profile_find(geometry, 0, false);
  memset(found, 0, sizeof *found);
  found->number = number;
  found->slices = slices;
  found->starts = compute_starts(slices, profile->slices);
  found->instances = (uint32_t)__builtin_popcount(found->starts);
  found->multiprocessors = whole || single == NULL ? profile->multiprocessors : slices * single->multiprocessors;
  if (whole)
    snprintf(found->name, sizeof found->name, "%s", profile->name);
  else
    snprintf(found->name, sizeof found->name, "%uc.%s", slices, profile->name);
  return true;
}
