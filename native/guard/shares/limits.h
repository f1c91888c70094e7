/* The limits file of one share, read-only for everybody in the container.
 *
 * A page is believed only when magic, version, checksum and texts are right and the seqlock stood still; what was believed last
 * stays in force while the writer is at work.  Reading the limit on the allocation path is one load of the page's sequence.
 */
#ifndef GUARD_LIMITS_H
#define GUARD_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "hami_abi.h"

typedef struct guard_limits {
  uint64_t memory_limit_bytes;  /* 0: no limit */
  uint64_t managed_limit_bytes; /* managed memory beyond it; 0: none */
  uint32_t compute_permille;    /* of the device; 0: no limit */
  bool compute_granted;         /* by somebody who watches what the device really does for the share */
  uint32_t mps_percent;         /* of the multiprocessors, for a client of MPS; 0: not under MPS */
  char device_uuid[sizeof((hami_limits *)0)->device_uuid];
  uint32_t sequence; /* of the page these values came from */
} guard_limits;

/* CRC-32 (IEEE) of a limits page with sequence and checksum taken as zero. */
uint32_t limits_checksum(const hami_limits *page);
/* Checks one still copy of a page and takes its values. */
int limits_parse(const hami_limits *page, guard_limits *out, guard_error *err);
/* Takes a still copy of a page that may change meanwhile, and parses it. */
int limits_read(const hami_limits *shared, guard_limits *out, guard_error *err);
/* Maps the file for the life of the process.  The mount has to be read-only: what a tenant can write limits nobody. */
int limits_map(const char *path, const hami_limits **out, guard_error *err);

#endif
