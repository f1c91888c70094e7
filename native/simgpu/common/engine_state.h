/* How the state file lays out each card's engine: what is queued on it, whose turn it is, what time it is there.
 *
 * Channels   one for each stream with work: a ring of items in the order of their submission.  `submitted`, `released`
 *            and the ring belong to the process that owns the channel, everything else to whoever advances the engine;
 *            both only under the engine's lock.
 * Processes  one for each slot.  A process's GPU time is its clock: it goes on only while one of its kernels runs, so
 *            that a kernel which began when it said b ends when it says b + duration, however often it was interrupted.
 * Log        the words that a step of the engine is about to change, with their new values.  A step happens when
 *            `log_count` is stored; whoever finds it set does what the log says, again if need be.  An owner of the lock
 *            may therefore die at any instant.
 */
#ifndef SIMGPU_ENGINE_STATE_H
#define SIMGPU_ENGINE_STATE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_MAX_CHANNELS 512u
#define SIM_RING_ITEMS 1024u
#define SIM_PERIODS 128u
#define SIM_PERIOD_NS (UINT64_C(1000000000) / 6)
#define SIM_LOG_WORDS 1152u
#define SIM_ENGINE_PROCESSES 1024u

typedef enum sim_item_kind {
  SIM_ITEM_KERNEL = 1, /* runs for `value` ns */
  SIM_ITEM_MARK,       /* leaves the time at which it was reached in `value` */
  SIM_ITEM_WAIT,       /* for the first `value` items of the channel `target` */
  SIM_ITEM_HOST,       /* until the channel's owner has released it */
} sim_item_kind;

typedef struct sim_item {
  uint32_t kind;
  uint32_t occupancy; /* thousandths of the card's multiprocessors */
  uint64_t value;
  uint64_t target; /* incarnation << 16 | channel */
  uint64_t stamp;  /* order of submission on the card */
} sim_item;

typedef struct sim_channel {
  uint64_t owner;         /* sim_identity of a process; 0: free */
  uint64_t incarnation;   /* tells this use of the channel from earlier ones */
  uint64_t submitted;     /* items ever put in; item i lies at i % SIM_RING_ITEMS */
  uint64_t done;          /* items ever completed */
  uint64_t running_until; /* by the clock of its process, when the first item ends; 0: it has not begun */
  uint64_t released;      /* items before this one do not wait for the host any more */
  uint64_t priority;      /* the smaller, the sooner */
  uint64_t unused[9];
} sim_channel;

typedef struct sim_engine_process {
  uint64_t identity; /* ticket << 32 | slot + 1; 0: nobody */
  uint64_t gpu_time_ns;
  uint64_t unused[6];
} sim_engine_process;

typedef struct sim_log_word {
  uint64_t offset; /* in the engine */
  uint64_t value;
} sim_log_word;

/* GPU time in one period: the period's number << 32 | ns, at number % SIM_PERIODS. */
typedef uint64_t sim_history[SIM_PERIODS];

typedef struct sim_engine {
  uint32_t lock;                /* see lock.h */
  uint32_t sequence;            /* odd while locked, for readers without lock */
  uint64_t now_ns;              /* CLOCK_MONOTONIC up to which everything has happened */
  uint64_t busy_ns;             /* time in which a kernel ran */
  uint64_t retired_gpu_time_ns; /* of processes that left their slot to others */
  uint64_t turn;                /* slot of the process whose turn it is */
  uint64_t turn_left_ns;
  uint64_t stamp;
  uint64_t incarnation;
  uint64_t looked_for_dead_ns; /* when the owners of channels were last looked at */
  uint64_t channel_high;       /* channels from here on have never been used */
  uint64_t process_high;       /* slots from here on have never used the card */
  /* Settings of simctl. */
  uint64_t time_slice_ns; /* 0: the default */
  uint64_t mps;           /* 1: all processes run as if they were one */
  uint64_t unused[19];
  uint64_t active[SIM_MAX_CHANNELS / 64]; /* bit: the channel has items to do */
  uint64_t log_count;
  uint64_t unused_too[7];
  sim_log_word log[SIM_LOG_WORDS];
  unsigned char rest[640];
  sim_history history;
  sim_engine_process processes[SIM_ENGINE_PROCESSES];
  sim_history histories[SIM_ENGINE_PROCESSES];
  sim_channel channels[SIM_MAX_CHANNELS];
  sim_item rings[SIM_MAX_CHANNELS][SIM_RING_ITEMS];
} sim_engine;

/* What kernels take, where their launch does not say it; of the whole node. */
typedef struct sim_kernel {
  char name[112];
  uint64_t duration_ns;
  uint64_t unused;
} sim_kernel;

#define SIM_MAX_KERNELS 255u

typedef struct sim_kernel_table {
  uint32_t version; /* changes with the table */
  uint32_t count;
  unsigned char unused[120];
  sim_kernel kernels[SIM_MAX_KERNELS];
} sim_kernel_table;

static_assert(sizeof(sim_item) == 32, "layout of an item");
static_assert(sizeof(sim_channel) == 128, "layout of a channel");
static_assert(sizeof(sim_engine_process) == 64, "layout of a process");
static_assert(sizeof(sim_kernel_table) == 32768, "layout of the table of kernels");
static_assert(offsetof(sim_engine, active) == 256, "layout of an engine");
static_assert(offsetof(sim_engine, log) == 384, "layout of an engine");
static_assert(offsetof(sim_engine, processes) == 20480, "layout of an engine");
static_assert(offsetof(sim_engine, channels) == 20480 + 64 * 1024 + 1024 * 1024, "layout of an engine");
static_assert(sizeof(sim_engine) == offsetof(sim_engine, channels) + 64 * 1024 + 512 * 1024 * 32,
              "layout of an engine");

#endif
