/* Layout of the two files that the node plugin and the guard share for one share of one device.
 *
 * limits  written by the node plugin alone, mounted read-only at /run/hami/<share>/limits.  One page.  It is complete before the
 *         first process of the share starts; later changes are made in place: the writer makes `sequence` odd, changes fields,
 *         updates `checksum`, makes `sequence` even again.  A reader retries while `sequence` is odd or has changed.
 * usage   created zero-filled by the node plugin, mounted read-write at /run/hami/<share>/usage.  Its content belongs to the
 *         processes of the share, hence to the tenant: the node plugin reads it with pread and believes nothing in it.
 *         A file of layout 1 ends with the slots; one of layout 2 has credits behind them, and is made by guards that know them.
 *
 * Integers are little-endian.  Offsets are part of the contract: a change of any of them is a change of HAMI_ABI_VERSION.  A new field
 * takes unused bytes, and zero in it means that nobody said anything.
 * hami_abi.json and hami_dra/_gen/abi.py are generated from the field lists below (hack/generate).
 */
#ifndef HAMI_ABI_H
#define HAMI_ABI_H

#include <stddef.h>
#include <stdint.h>

#define HAMI_ABI_VERSION 1u
#define HAMI_USAGE_ABI_VERSION 2u
#define HAMI_LIMITS_MAGIC "HAMILIM1"
#define HAMI_USAGE_MAGIC "HAMIUSE1"
#define HAMI_LIMITS_SIZE 4096u
#define HAMI_USAGE_HEADER_SIZE 4096u
#define HAMI_USAGE_SLOTS 1024u
#define HAMI_USAGE_SLOT_SIZE 128u
#define HAMI_USAGE_BUSY_WORDS 384u
#define HAMI_USAGE_SIZE (HAMI_USAGE_HEADER_SIZE + HAMI_USAGE_SLOTS * HAMI_USAGE_SLOT_SIZE)
#define HAMI_USAGE_CREDITS 512u
#define HAMI_USAGE_CREDIT_SIZE 256u
#define HAMI_USAGE_FILE_SIZE (HAMI_USAGE_SIZE + HAMI_USAGE_CREDITS * HAMI_USAGE_CREDIT_SIZE)

/* Values of hami_limits.qos. */
enum { HAMI_QOS_FIXED_SHARE = 0, HAMI_QOS_BURST_SHARE = 1, HAMI_QOS_BEST_EFFORT = 2 };
/* Values of hami_limits.priority. */
enum { HAMI_PRIORITY_LOW = 0, HAMI_PRIORITY_NORMAL = 1, HAMI_PRIORITY_HIGH = 2 };

/* X(type, name, array length or 0, offset, meaning) */
#define HAMI_LIMITS_FIELDS(X)                                                                           \
  X(char, magic, 8, 0, "HAMI_LIMITS_MAGIC, no terminator")                                              \
  X(uint32_t, abi_version, 0, 8, "HAMI_ABI_VERSION of the writer")                                      \
  X(uint32_t, sequence, 0, 12, "seqlock: odd while the writer is at work")                              \
  X(uint32_t, checksum, 0, 16, "CRC-32 (IEEE) of the page with sequence and checksum taken as zero")    \
  X(uint32_t, qos, 0, 20, "HAMI_QOS_*")                                                                 \
  X(uint32_t, priority, 0, 24, "HAMI_PRIORITY_*")                                                       \
  X(uint32_t, cores_percent, 0, 28, "percent of one device's compute; 0: no compute limit")             \
  X(uint64_t, memory_limit_bytes, 0, 32, "device memory of the share; 0: no memory limit")              \
  X(uint64_t, device_memory_bytes, 0, 40, "memory of the whole device")                                 \
  X(uint64_t, generation, 0, 48, "grows by one with each change of the limits")                         \
  X(uint32_t, granted_permille, 0, 56, "compute granted for now, permille; 0: cores_percent holds")     \
  X(char, device_uuid, 64, 64, "as the vendor's library prints it (GPU-… or MIG-…), NUL-padded")        \
  X(char, share, 160, 128, "name of the share's directory, NUL-padded")                                 \
  X(uint64_t, managed_limit_bytes, 0, 288, "managed memory allowed beyond memory_limit_bytes; 0: none") \
  X(uint32_t, mps_percent, 0, 296, "of the multiprocessors, for a client of MPS; 0: not under MPS")

/* The first page of a usage file.  magic is the last field a creator writes. */
#define HAMI_USAGE_FIELDS(X)                                                                   \
  X(char, magic, 8, 0, "HAMI_USAGE_MAGIC once the file is initialised, zero before")           \
  X(uint32_t, abi_version, 0, 8, "HAMI_USAGE_ABI_VERSION; 1: a file without credits")          \
  X(uint32_t, recounts, 0, 12, "grows by one when a recount begins and when it ends")          \
  X(uint64_t, used_bytes, 0, 16, "sum of used_bytes over the slots and of bytes over credits") \
  X(uint64_t, peak_bytes, 0, 24, "highest used_bytes ever seen")                               \
  X(uint64_t, refused_total, 0, 32, "allocations refused because of the limit")                \
  X(uint64_t, deaths_total, 0, 40, "processes whose charge was taken back after their death")  \
  X(int64_t, bucket_ns, 0, 48, "GPU time that may still be used; negative: owed")              \
  X(uint64_t, bucket_at_ns, 0, 56, "CLOCK_MONOTONIC up to which the bucket was filled")        \
  X(uint64_t, gpu_time_ns, 0, 64, "GPU time charged since the file was made")                  \
  X(uint64_t, throttled_ns, 0, 72, "time that launches waited, summed over threads")           \
  X(uint64_t, managed_bytes, 0, 80, "sum of managed_bytes over the slots")                     \
  X(uint64_t, context_bytes, 0, 88, "1 + what the driver takes for a context; 0: not known")   \
  X(uint64_t, credits, 0, 96, "credits from this index on were never in use")                  \
  X(uint64_t, busy, 384, 1024, "when the device worked for the share: cells of time, see guard/compute/busy.h")

/* One process.  A slot belongs to the process that holds the POSIX record lock on the byte of the usage file at
 * HAMI_USAGE_SIZE + slot index; the kernel drops that lock with the process, whatever its pid namespace. */
#define HAMI_USAGE_SLOT_FIELDS(X)                                                                            \
  X(uint32_t, state, 0, 0, "0: free, 1: in use")                                                             \
  X(int32_t, pid, 0, 4, "as the process sees itself; information only")                                      \
  X(uint64_t, used_bytes, 0, 8, "device memory charged to the process")                                      \
  X(uint64_t, start_time_ns, 0, 16, "CLOCK_BOOTTIME when the slot was taken")                                \
  X(uint64_t, allocations_total, 0, 24, "allocations charged")                                               \
  X(uint64_t, launches_total, 0, 32, "kernel launches")                                                      \
  X(uint64_t, gpu_time_ns, 0, 40, "GPU time charged to the process")                                         \
  X(uint64_t, throttled_ns, 0, 48, "time that its launches waited")                                          \
  X(uint64_t, wanted_at_ns, 0, 56, "CLOCK_MONOTONIC when it last launched or waited to launch; coarse")      \
  X(uint64_t, managed_bytes, 0, 64, "managed memory beyond the memory limit, not in used_bytes")             \
  X(uint64_t, overhead_bytes, 0, 72, "part of used_bytes that the driver took by itself: contexts, modules") \
  X(uint64_t, moving_bytes, 0, 80, "part of used_bytes that the header may or may not have in its sum")      \
  X(uint64_t, moving_managed_bytes, 0, 88, "the same of managed_bytes")

/* One piece of device memory that processes handed to each other: in no slot's used_bytes, and charged as long as any process holds it.
 * Changed by whoever holds the record lock on the byte at HAMI_USAGE_SIZE + HAMI_USAGE_SLOTS + 2. */
#define HAMI_USAGE_CREDIT_FIELDS(X)                                                        \
  X(uint32_t, state, 0, 0, "0: free, 1: in use, 2: being made, 3: being ended")            \
  X(uint32_t, generation, 0, 4, "grows by one with each use of the place")                 \
  X(uint64_t, bytes, 0, 8, "what is charged for it, once")                                 \
  X(uint32_t, payer, 0, 16, "slot that it is shown with while that is one of its holders") \
  X(uint64_t, key, 8, 24, "what its holders know it by, see guard/shares/credit.h")        \
  X(uint64_t, holders, 16, 88, "a bit for each slot whose process holds it")

/* The structures, written out so that they read as documentation; native/guard/abi_check.c holds them to the lists above. */
typedef struct hami_limits {
  char magic[8];
  uint32_t abi_version;
  uint32_t sequence;
  uint32_t checksum;
  uint32_t qos;
  uint32_t priority;
  uint32_t cores_percent;
  uint64_t memory_limit_bytes;
  uint64_t device_memory_bytes;
  uint64_t generation;
  uint32_t granted_permille;
  uint32_t reserved;
  char device_uuid[64];
  char share[160];
  uint64_t managed_limit_bytes;
  uint32_t mps_percent;
  unsigned char unused[HAMI_LIMITS_SIZE - 300u];
} hami_limits;

typedef struct hami_usage_header {
  char magic[8];
  uint32_t abi_version;
  uint32_t recounts;
  uint64_t used_bytes;
  uint64_t peak_bytes;
  uint64_t refused_total;
  uint64_t deaths_total;
  int64_t bucket_ns;
  uint64_t bucket_at_ns;
  uint64_t gpu_time_ns;
  uint64_t throttled_ns;
  uint64_t managed_bytes;
  uint64_t context_bytes;
  uint64_t credits;
  unsigned char unused[1024u - 104u];
  uint64_t busy[HAMI_USAGE_BUSY_WORDS];
} hami_usage_header;

typedef struct hami_usage_slot {
  uint32_t state;
  int32_t pid;
  uint64_t used_bytes;
  uint64_t start_time_ns;
  uint64_t allocations_total;
  uint64_t launches_total;
  uint64_t gpu_time_ns;
  uint64_t throttled_ns;
  uint64_t wanted_at_ns;
  uint64_t managed_bytes;
  uint64_t overhead_bytes;
  uint64_t moving_bytes;
  uint64_t moving_managed_bytes;
  unsigned char unused[HAMI_USAGE_SLOT_SIZE - 96u];
} hami_usage_slot;

typedef struct hami_usage_credit {
  uint32_t state;
  uint32_t generation;
  uint64_t bytes;
  uint32_t payer;
  uint32_t reserved;
  uint64_t key[8];
  uint64_t holders[HAMI_USAGE_SLOTS / 64u];
  unsigned char unused[HAMI_USAGE_CREDIT_SIZE - 216u];
} hami_usage_credit;

typedef struct hami_usage {
  hami_usage_header header;
  hami_usage_slot slots[HAMI_USAGE_SLOTS];
  hami_usage_credit credits[HAMI_USAGE_CREDITS];
} hami_usage;

#endif
