/* The part of the state file that says in what condition cards are: how MIG cuts them, and what is wrong with them.
 *
 * Changed under the lock of the state file, one field at a time and the one that makes a thing valid last, so that
 * death at any point leaves a condition that can be.  Read by sim_condition_read, which trusts none of it.
 */
#ifndef SIMGPU_CONDITION_H
#define SIMGPU_CONDITION_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define SIM_MAX_GPU_INSTANCES 8u
#define SIM_MAX_COMPUTE_INSTANCES 8u

typedef struct sim_compute_instance {
  uint32_t serial;  /* 0: free; else grows with each instance of the card, so that stale handles are recognised */
  uint32_t profile; /* NVML_COMPUTE_INSTANCE_PROFILE_* */
  uint32_t start;   /* compute slice, within the GPU instance */
  uint32_t slices;
} sim_compute_instance;

typedef struct sim_gpu_instance {
  uint32_t serial;  /* as above */
  uint32_t profile; /* NVML_GPU_INSTANCE_PROFILE_* */
  uint32_t start;   /* memory slice */
  uint32_t size;
  sim_compute_instance compute[SIM_MAX_COMPUTE_INSTANCES]; /* the index is the id */
} sim_gpu_instance;

typedef struct sim_mig {
  uint32_t enabled; /* 0 or 1 */
  uint32_t pending; /* what it will be after a reset */
  uint32_t serial;  /* of the last instance */
  uint32_t unused;
  sim_gpu_instance instances[SIM_MAX_GPU_INSTANCES];
} sim_mig;

/* Whether a card answers. */
enum { SIM_PRESENT = 0, SIM_LOST = 1, SIM_GONE = 2 /* from the bus: not even counted */ };

#define SIM_RETIRED_PAGES 64u

/* What is wrong with a card; figures that are 0 are those of a card in good order. */
typedef struct sim_faults {
  uint32_t presence;
  uint32_t temperature_c;
  uint32_t sm_clock_mhz;
  uint32_t power_mw;
  uint64_t throttle;         /* nvmlClocksEventReason* */
  uint64_t ecc_volatile[2];  /* single bit, double bit */
  uint64_t ecc_aggregate[2]; /* the same since the card was made */
  uint32_t remapped[2];      /* rows, for correctable and uncorrectable errors */
  uint32_t remap_pending;
  uint32_t remap_failed;
  uint32_t retired[2]; /* pages, for single-bit and double-bit errors; at most SIM_RETIRED_PAGES each */
} sim_faults;

/* One card. */
typedef struct sim_condition {
  sim_mig mig;
  sim_faults faults;
  unsigned char unused[2848];
} sim_condition;

#define SIM_EVENTS 256u

/* One event, as NVML's event sets deliver it. */
typedef struct sim_event {
  uint64_t number; /* counts all events of the node */
  uint64_t type;   /* nvmlEventType* */
  uint64_t data;
  uint32_t card;
  uint32_t gpu_instance, compute_instance; /* ids, or UINT32_MAX */
  uint32_t unused;
} sim_event;

typedef struct sim_event_ring {
  uint64_t next; /* number of the next event */
  uint32_t bell; /* the same, to sleep on */
  uint32_t unused;
  sim_event events[SIM_EVENTS];
} sim_event_ring;

/* The driver itself. */
typedef struct sim_driver_state {
  uint32_t unloaded;
  char library_version[36]; /* of the installed libraries; empty: that of the driver */
} sim_driver_state;

/* What is not a card's. */
typedef struct sim_node_condition {
  sim_driver_state driver;
  sim_event_ring events;
} sim_node_condition;

#define SIM_ACCOUNTS 128u

/* A process that used a card and is dead. */
typedef struct sim_past {
  int32_t pid; /* as it saw itself */
  uint32_t unused;
  uint64_t start_us; /* CLOCK_REALTIME */
  uint64_t lived_ms; /* until its death was noticed */
  uint64_t peak_bytes;
  uint64_t gpu_time_ns;
} sim_past;

/* A card's accounting: a ring of the dead, while it is switched on. */
typedef struct sim_accounts {
  uint32_t enabled;
  uint32_t next; /* counts all that were ever written */
  sim_past past[SIM_ACCOUNTS];
} sim_accounts;

static_assert(sizeof(sim_condition) == 4096, "layout of a condition");

#endif
