/* The parser of limits pages, on any bytes.
 *
 * An odd first byte has the page's checksum made right, so that the fuzzer gets behind it. */
#include <string.h>

#include "fuzz.h"
#include "limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  hami_limits page = {.abi_version = HAMI_ABI_VERSION};
  guard_limits parsed, read;
  guard_error error = {0};
  if (size == 0) return 0;
  memcpy(page.magic, HAMI_LIMITS_MAGIC, sizeof page.magic);
  memcpy(&page, data + 1, size - 1 < sizeof page ? size - 1 : sizeof page);
  if ((data[0] & 1) != 0) {
    memcpy(page.magic, HAMI_LIMITS_MAGIC, sizeof page.magic);
    page.abi_version = HAMI_ABI_VERSION;
    page.checksum = limits_checksum(&page);
  }
  int result = limits_parse(&page, &parsed, &error);
  FUZZ_CHECK(result == 0 || error.what != NULL);
  FUZZ_CHECK(result != 0 || strnlen(parsed.device_uuid, sizeof parsed.device_uuid) < sizeof parsed.device_uuid);
  FUZZ_CHECK(result != 0 || parsed.memory_limit_bytes == page.memory_limit_bytes);
  if ((page.sequence & 1u) != 0) return 0; /* a writer at work: the reader would wait for it */
  FUZZ_CHECK((limits_read(&page, &read, NULL) == 0) == (result == 0));
  return 0;
}
