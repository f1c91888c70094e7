/* The engine of a card as readers see it, who write nothing: a copy that is advanced to the present. */
#ifndef SIMGPU_ENGINE_READ_H
#define SIMGPU_ENGINE_READ_H

#include "engine.h"

typedef struct sim_engine_copy {
  sim_engine *engine;     /* NULL: none was read */
  uint32_t process_count; /* slots that have ever used the card */
} sim_engine_copy;

/* Copies the engine of a card and advances the copy; to be freed by sim_engine_forget also after an error. */
sim_status sim_engine_read(const sim_store *store, uint32_t card, sim_engine_copy *copy);

void sim_engine_forget(sim_engine_copy *copy);

/* GPU time of the process with this identity; 0 if it has never used the card. */
uint64_t sim_copy_gpu_time(const sim_engine_copy *copy, uint64_t identity);

/* GPU time of all processes that have died. */
uint64_t sim_copy_retired(const sim_engine_copy *copy, const sim_store *store);

/* GPU time in one period, by its number; 0 when it is too long ago. */
uint64_t sim_history_ns(const sim_history history, uint64_t period);

#endif
