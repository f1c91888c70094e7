/* The way into a hook: does its logic apply to this call? */
#ifndef GUARD_GATE_H
#define GUARD_GATE_H

#include <stdbool.h>

#include "driver.h"
#include "process.h"

#define GUARD_EXPORT __attribute__((visibility("default")))

/* How deep this thread is in hooks.  A driver may call its own exported functions; what they do is already charged. */
extern _Thread_local unsigned gate_depth __attribute__((visibility("hidden"), tls_model("initial-exec")));

static inline void gate_leave(const bool *limited) {
  (void)limited;
  gate_depth--;
}

/* True when there is something to enforce and no hook below us on this thread's stack is already doing it. */
static inline bool gate_enter(void) { return gate_depth++ == 0 && process_is_limited(); }

/* Declares `limited`, whether the hook has anything to do; the gate is left at the end of the block. */
#define GATE(limited) __attribute__((cleanup(gate_leave))) const bool limited = gate_enter()

/* How a hook begins: declares `real`, the driver's function of the same name, and `limited`; ends the hook with `missing` when the
 * driver has no such function. */
#define BEGIN_HOOK(name, missing)        \
  __typeof__(&(name)) real = REAL(name); \
  if (real == NULL) return (missing);    \
  GATE(limited)

#endif
