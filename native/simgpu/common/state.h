/* The state file of a simulated node, <root>/dev/nvidiactl.
 *
 * Every process that uses the simulated libcuda maps it; libnvidia-ml and `simctl list` only read it.  It is the
 * one place where cards and their memory are known, so that what CUDA, NVML and simctl say about a card cannot
 * differ.
 *
 * Cards      written by `simctl create`, changed only by `simctl set`.  A process copies them when it starts.
 * Slots      one for each process that called cuInit.  A process owns the slot whose byte of SIM_SLOT_LOCKS it
 *            holds by a POSIX record lock: the kernel drops that lock with the process, whatever its pid namespace
 *            and however it died, and with it everything that the slot says stops to count.  A card's used memory
 *            is the sum over the slots of living processes; `used_bytes` of the card is a running sum over all
 *            slots, those of the dead included until somebody looks (see account.h).
 * Conditions how MIG cuts each card, and what is wrong with it, see condition.h; changed under the lock.
 * Engines    one for each card: what runs on it and when; see engine_state.h.
 * Shares     memory that several processes hold; it counts once, as long as any of them lives (see share.h).
 * lock       serialises changes of slots; see lock.h.  `sequence` is odd while a change is under way, for readers
 *            without lock.
 *
 * The file is writable by every process of the node, so nothing in it is trusted: counts and indices are checked
 * at each use, strings end where their array ends.
 */
#ifndef SIMGPU_STATE_H
#define SIMGPU_STATE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "condition.h"
#include "engine_state.h"

#define SIM_STATE_PATH "dev/nvidiactl"
#define SIM_MAGIC "SIMGPU01"
#define SIM_STATE_VERSION 3u
#define SIM_MAX_CARDS 32u
#define SIM_MAX_SLOTS 1024u
#define SIM_MAX_SHARES 256u

/* What a card is and how it was set; numbers in the units of their names. */
typedef struct sim_card {
  char name[96];  /* as NVML and CUDA print it */
  char model[16]; /* simctl's word for it: A100 */
  char uuid[48];  /* GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx */
  char serial[32];
  char vbios[32];
  char part_number[32];
  uint64_t memory_bytes;
  uint32_t minor_number; /* /dev/nvidia<minor_number> */
  uint32_t pci_domain;
  uint32_t pci_bus;
  uint32_t pci_device;
  uint32_t pci_device_id; /* device << 16 | vendor, as NVML has it */
  uint32_t pci_subsystem_id;
  int32_t numa_node;     /* -1: the platform does not say */
  uint32_t architecture; /* NVML_DEVICE_ARCH_* */
  uint32_t capability_major;
  uint32_t capability_minor;
  uint32_t sm_count;
  uint32_t cores_per_sm;
  uint32_t threads_per_sm;
  uint32_t shared_bytes_per_sm;
  uint32_t l2_bytes;
  uint32_t memory_bus_bits;
  uint32_t sm_clock_mhz;
  uint32_t memory_clock_mhz;
  uint32_t power_limit_mw;
  uint32_t pcie_generation;
  uint32_t ecc_supported;
  uint32_t mig_supported;
  /* Settings. */
  uint64_t context_overhead_bytes; /* charged for each context */
  /* Statistics, written under the lock. */
  uint64_t peak_bytes;    /* highest sum over living processes ever seen by an allocation */
  uint64_t used_bytes;    /* sum over all slots, see account.h */
  uint64_t driver_memory; /* setting: whether modules and limits are charged */
  unsigned char unused[640];
} sim_card;

/* What one process does on one card. */
typedef struct sim_slot_card {
  uint64_t used_bytes;
  uint64_t contexts;
  uint64_t launches;
  uint64_t peak_bytes; /* the most that it ever charged */
} sim_slot_card;

typedef struct sim_slot {
  uint32_t state; /* 0: free, 1: in use */
  uint32_t ticket;
  int32_t pid; /* as the process sees itself; readers prefer the kernel's word, see sim_slot_owner */
  char command[20];
  uint64_t start_time_ns;         /* CLOCK_BOOTTIME */
  uint32_t instance;              /* the MIG device that the process works on, see sim_instance_word; 0: whole cards */
  uint16_t faults[SIM_MAX_CARDS]; /* the CUresult that its calls on each card end with, 0 while all is well */
  unsigned char unused[20];
  sim_slot_card cards[SIM_MAX_CARDS];
} sim_slot;

/* Memory that lives as long as any of several processes holds it; see share.h. */
typedef struct sim_shared {
  uint64_t bytes; /* 0: free */
  uint32_t card;
  uint32_t ticket; /* tells it from others that had this place before */
  uint32_t owner;  /* the slot that made it */
  uint32_t unused;
  uint64_t holders[SIM_MAX_SLOTS / 64]; /* a bit for each slot */
} sim_shared;

typedef struct sim_header {
  char magic[8];
  uint32_t version;
  uint32_t card_count;
  uint32_t lock;         /* see lock.h */
  uint32_t sequence;     /* odd while slots change */
  uint32_t ticket;       /* of the last process that took a slot */
  uint32_t slot_high;    /* slots from here on have never been used, or have been given back */
  uint32_t cuda_version; /* 12080: what cuDriverGetVersion says */
  char driver_version[36];
  uint32_t sums_stale;  /* somebody died at work: the cards' sums have to be made anew from the slots */
  uint32_t reaps;       /* counts slots that were taken from the dead */
  uint32_t foreign_ids; /* setting: NVML names processes by ids of another pid namespace */
  unsigned char unused[4012];
} sim_header;

typedef struct sim_state {
  sim_header header;
  sim_card cards[SIM_MAX_CARDS];
  sim_slot slots[SIM_MAX_SLOTS];
  sim_condition conditions[SIM_MAX_CARDS];
  sim_node_condition node;
  sim_accounts accounts[SIM_MAX_CARDS];
  sim_shared shares[SIM_MAX_SHARES];
  sim_kernel_table kernels;
  sim_engine engines[SIM_MAX_CARDS]; /* the file is sparse: engines that nobody uses take no room */
} sim_state;

#define SIM_STATE_SIZE sizeof(sim_state)
/* Offset of the first slot's lock byte, behind the end of the file: record locks need no bytes under them. */
#define SIM_SLOT_LOCKS ((long)SIM_STATE_SIZE)

static_assert(sizeof(sim_card) == 1024, "layout of a card");
static_assert(offsetof(sim_card, memory_bytes) == 256, "layout of a card");
static_assert(sizeof(sim_slot) == 1152, "layout of a slot");
static_assert(offsetof(sim_slot, cards) == 128, "layout of a slot");
static_assert(sizeof(sim_header) == 4096, "layout of the state");
static_assert(offsetof(sim_state, shares) ==
                  4096 + 32 * 1024 + 1024 * 1152 + 32 * 4096 + sizeof(sim_node_condition) + 32 * sizeof(sim_accounts),
              "layout of the state");
static_assert(offsetof(sim_state, kernels) == offsetof(sim_state, shares) + 256 * 152, "layout of the state");
static_assert(SIM_MAX_SLOTS == SIM_ENGINE_PROCESSES, "layout of the state");
static_assert(SIM_STATE_SIZE == offsetof(sim_state, engines) + 32 * sizeof(sim_engine), "layout of the state");

#endif
