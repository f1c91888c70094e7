/* What a fuzz target is: libFuzzer's one function, and a check that ends the process.  Targets run under libFuzzer where the
 * compiler brings it, and under driver.c elsewhere. */
#ifndef GUARD_FUZZ_H
#define GUARD_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                       \
  do {                                                                              \
    if (!(condition)) {                                                             \
      (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                      \
    }                                                                               \
  } while (0)

#endif
