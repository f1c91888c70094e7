/* A step of the engine: words that change together, or not at all. */
#ifndef SIMGPU_ENGINE_LOG_H
#define SIMGPU_ENGINE_LOG_H

#include "engine.h"

typedef struct sim_step {
  sim_engine *engine;
  uint64_t count;
} sim_step;

/* Notes a new value for a word of the engine; it keeps its old one until the commit. */
static inline void sim_step_set(sim_step *step, uint64_t *word, uint64_t value) {
  if (step->count == SIM_LOG_WORDS) return; /* more than there are channels: damaged */
  sim_log_word *entry = &step->engine->log[step->count++];
  entry->offset = (uint64_t)((const char *)word - (const char *)step->engine);
  entry->value = value;
}

/* Makes the step happen. */
static inline void sim_step_commit(sim_step *step) {
  sim_engine *engine = step->engine;
  __atomic_store_n(&engine->log_count, step->count, __ATOMIC_RELEASE);
  sim_engine_recover(engine);
  step->count = 0;
}

#endif
