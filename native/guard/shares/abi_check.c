/* Holds the structures of hami_abi.h to its field lists, when compiled.  The lists are the contract: the Python side is generated
 * from them. */
#include "hami_abi.h"

#define SIZE_OF(type, count) (sizeof(type) * ((count) == 0 ? 1u : (count) + 0u))

#define X(type, name, count, offset, meaning)                                                    \
  _Static_assert(offsetof(hami_limits, name) == (offset), "hami_limits." #name " is elsewhere"); \
  _Static_assert(sizeof(((hami_limits *)0)->name) == SIZE_OF(type, count), "hami_limits." #name " has another size");
HAMI_LIMITS_FIELDS(X)
#undef X

#define X(type, name, count, offset, meaning)                                                                \
  _Static_assert(offsetof(hami_usage_header, name) == (offset), "hami_usage_header." #name " is elsewhere"); \
  _Static_assert(sizeof(((hami_usage_header *)0)->name) == SIZE_OF(type, count),                             \
                 "hami_usage_header." #name " has another size");
HAMI_USAGE_FIELDS(X)
#undef X

#define X(type, name, count, offset, meaning)                                                            \
  _Static_assert(offsetof(hami_usage_slot, name) == (offset), "hami_usage_slot." #name " is elsewhere"); \
  _Static_assert(sizeof(((hami_usage_slot *)0)->name) == SIZE_OF(type, count),                           \
                 "hami_usage_slot." #name " has another size");
HAMI_USAGE_SLOT_FIELDS(X)
#undef X

#define X(type, name, count, offset, meaning)                                                                \
  _Static_assert(offsetof(hami_usage_credit, name) == (offset), "hami_usage_credit." #name " is elsewhere"); \
  _Static_assert(sizeof(((hami_usage_credit *)0)->name) == SIZE_OF(type, count),                             \
                 "hami_usage_credit." #name " has another size");
HAMI_USAGE_CREDIT_FIELDS(X)
#undef X

_Static_assert(sizeof(hami_limits) == HAMI_LIMITS_SIZE, "limits file");
_Static_assert(sizeof(hami_usage_header) == HAMI_USAGE_HEADER_SIZE, "usage header");
_Static_assert(sizeof(hami_usage_slot) == HAMI_USAGE_SLOT_SIZE, "usage slot");
_Static_assert(sizeof(hami_usage_credit) == HAMI_USAGE_CREDIT_SIZE, "usage credit");
_Static_assert(offsetof(hami_usage, credits) == HAMI_USAGE_SIZE, "usage file of layout 1");
_Static_assert(sizeof(hami_usage) == HAMI_USAGE_FILE_SIZE, "usage file");
_Static_assert(sizeof(HAMI_LIMITS_MAGIC) == 9 && sizeof(HAMI_USAGE_MAGIC) == 9, "magics have eight characters");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the files are little-endian");
