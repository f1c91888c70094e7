#include "limits.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "prim.h"

enum { READ_TRIES = 1000, WHOLE_DEVICE_PERCENT = 100, MOST_PERMILLE = 64000 };

static uint32_t crc32_add(uint32_t crc, const unsigned char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
  }
  return crc;
}

uint32_t limits_checksum(const hami_limits *page) {
  static const unsigned char zero[sizeof page->sequence + sizeof page->checksum];
  const unsigned char *bytes = (const unsigned char *)page;
  size_t skipped = offsetof(hami_limits, sequence);
  size_t rest = skipped + sizeof zero;
  uint32_t crc = crc32_add(0xFFFFFFFFu, bytes, skipped);
  crc = crc32_add(crc, zero, sizeof zero);
  return ~crc32_add(crc, bytes + rest, sizeof *page - rest);
}

static bool is_text(const char *field, size_t size) { return field[0] != '\0' && memchr(field, '\0', size) != NULL; }

static void take_compute(const hami_limits *page, guard_limits *out) {
  uint32_t cores = page->cores_percent < WHOLE_DEVICE_PERCENT ? page->cores_percent * 10 : 0;
  out->compute_granted = page->granted_permille != 0;
  out->compute_permille = out->compute_granted ? page->granted_permille : cores;
  if (out->compute_permille > MOST_PERMILLE) out->compute_permille = MOST_PERMILLE;
}

int limits_parse(const hami_limits *page, guard_limits *out, guard_error *err) {
  if (memcmp(page->magic, HAMI_LIMITS_MAGIC, sizeof page->magic) != 0)
    return guard_fail(err, EINVAL, "limits: wrong magic");
  if (page->abi_version != HAMI_ABI_VERSION) return guard_fail(err, EPROTO, "limits: another ABI version");
  if (page->checksum != limits_checksum(page)) return guard_fail(err, EBADMSG, "limits: wrong checksum");
  if (!is_text(page->device_uuid, sizeof page->device_uuid)) return guard_fail(err, EINVAL, "limits: no device UUID");
  out->memory_limit_bytes = page->memory_limit_bytes;
  out->managed_limit_bytes = page->memory_limit_bytes != 0 ? page->managed_limit_bytes : 0;
  out->sequence = page->sequence;
  out->mps_percent = page->mps_percent <= WHOLE_DEVICE_PERCENT ? page->mps_percent : WHOLE_DEVICE_PERCENT;
  take_compute(page, out);
  memcpy(out->device_uuid, page->device_uuid, sizeof out->device_uuid);
  return 0;
}

/* Word by word, each load ordered before the next, so that the sequence read last is read last. */
static void copy_page(const hami_limits *shared, hami_limits *copy) {
  const uint64_t *from = (const uint64_t *)(const void *)shared;
  for (size_t i = 0; i < sizeof *copy / sizeof *from; i++) {
    uint64_t word = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
    memcpy((char *)copy + i * sizeof word, &word, sizeof word);
  }
}

int limits_read(const hami_limits *shared, guard_limits *out, guard_error *err) {
  hami_limits copy;
  for (int tries = 0; tries < READ_TRIES; tries++) {
    uint32_t before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
    if ((before & 1u) != 0) continue;
    copy_page(shared, &copy);
    if (__atomic_load_n(&shared->sequence, __ATOMIC_RELAXED) != before) continue;
    copy.sequence = before;
    return limits_parse(&copy, out, err);
  }
  return guard_fail(err, EAGAIN, "limits: the writer does not finish");
}

int limits_map(const char *path, const hami_limits **out, guard_error *err) {
  PRIM_AUTOCLOSE int fd = prim_open(path, false);
  if (fd < 0) return guard_fail(err, -fd, "limits: cannot be opened");
  struct prim_file file;
  if (prim_stat(fd, &file) < 0 || !file.regular) return guard_fail(err, EINVAL, "limits: not a regular file");
  if (file.size < HAMI_LIMITS_SIZE) return guard_fail(err, EINVAL, "limits: too short");
  if (!prim_on_readonly_mount(fd)) return guard_fail(err, EPERM, "limits: not on a read-only mount");
  void *page = prim_map(fd, HAMI_LIMITS_SIZE, false);
  if (page == NULL) return guard_fail(err, ENOMEM, "limits: cannot be mapped");
  *out = page;
  return 0;
}
