#include "global.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define MOST_NAME 256
#define MOST_INITIAL_BYTES 4096u
#define MOST_BYTES ((uint64_t)1 << 40)

struct module_global {
  char name[MOST_NAME];
  uint64_t size;
  CUcontext context; /* whose memory it has its place in, or NULL */
  uintptr_t address;
  size_t initial_size;
  unsigned char initial[MOST_INITIAL_BYTES]; /* zeros beyond */
  module_global *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards places */

static void skip_blanks(const char **at) {
  while (isspace((unsigned char)**at)) ++*at;
}

static bool take_word(const char **at, const char *word) {
  size_t length = strlen(word);
  if (strncmp(*at, word, length) != 0) return false;
  *at += length;
  return true;
}

static size_t name_length(const char *at) {
  size_t length = 0;
  while (isalnum((unsigned char)at[length]) || at[length] == '_' || at[length] == '$' || at[length] == '%') length++;
  return length;
}

/* ---- PTX: [.align N] [.v2|.v4] .TYPE NAME [dimensions] [= initializer] {, NAME ...}; ----------------------------- */

/* Bytes of one element after `.global`; 0 for what is no declaration. */
static uint64_t read_type(const char **at) {
  uint64_t lanes = 1;
  for (;;) {
    skip_blanks(at);
    if (take_word(at, ".align")) {
      skip_blanks(at);
      strtoull(*at, (char **)at, 10);
    } else if (take_word(at, ".v2")) {
      lanes = 2;
    } else if (take_word(at, ".v4")) {
      lanes = 4;
    } else {
      break;
    }
  }
  if (**at != '.' || strchr("busf", (*at)[1]) == NULL || (*at)[1] == '\0') return 0;
  *at += 2;
  return strtoull(*at, (char **)at, 10) / 8 * lanes;
}

static uint64_t read_dimensions(const char **at) {
  uint64_t count = 1;
  for (skip_blanks(at); **at == '['; skip_blanks(at)) {
    ++*at;
    uint64_t here = strtoull(*at, (char **)at, 0);
    count = here > 0 && count <= MOST_BYTES / here ? count * here : 0;
    *at += strcspn(*at, "]");
    if (**at == ']') ++*at;
  }
  return count;
}

/* 12, 0x0C, 0f3F800000, 0d3FF0000000000000; whatever else, such as an address, is zero. */
static uint64_t read_number(const char **at) {
  bool hexadecimal = (*at)[0] == '0' && (*at)[1] != '\0' && strchr("fFdD", (*at)[1]) != NULL;
  if (hexadecimal) *at += 2;
  return strtoull(*at, (char **)at, hexadecimal ? 16 : 0);
}

static void read_initializer(const char **at, module_global *into, uint64_t element) {
  skip_blanks(at);
  while (**at != '\0' && **at != ';' && into->initial_size + element <= sizeof into->initial &&
         into->initial_size < into->size) {
    *at += strspn(*at, " \t\r\n{,");
    if (**at == '}' || **at == ';') break;
    const char *before = *at;
    uint64_t value = read_number(at);
    if (*at == before) *at += strcspn(*at, ",};");
    memcpy(into->initial + into->initial_size, &value, element < sizeof value ? element : sizeof value);
    into->initial_size += element;
  }
  *at += strcspn(*at, "};");
  if (**at == '}') ++*at;
}

static module_global *add(module_global *first, const char *name, size_t length, uint64_t size) {
  module_global *made = size > 0 && size <= MOST_BYTES && length > 0 ? calloc(1, sizeof *made) : NULL;
  if (made == NULL) return first;
  snprintf(made->name, sizeof made->name, "%.*s", (int)length, name);
  made->size = size;
  made->next = first;
  return made;
}

static module_global *read_declaration(const char *at, module_global *first) {
  uint64_t element = read_type(&at);
  while (element > 0 && *at != '\0' && *at != ';') {
    skip_blanks(&at);
    const char *name = at;
    size_t length = name_length(at);
    if (length == 0) break;
    at += length;
    module_global *made = add(first, name, length, element * read_dimensions(&at));
    skip_blanks(&at);
    if (*at == '=') {
      module_global scratch = {.size = 0};
      ++at;
      read_initializer(&at, made != first ? made : &scratch, element);
      skip_blanks(&at);
    }
    first = made;
    if (*at != ',') break;
    ++at;
  }
  return first;
}

/* Whether a directive begins here, and is not part of an instruction such as ld.global. */
static bool stands_alone(const char *text, const char *found) {
  return found == text || isspace((unsigned char)found[-1]);
}

static bool is_external(const char *text, const char *found) {
  static const char EXTERN[] = ".extern";
  while (found > text && isspace((unsigned char)found[-1])) found--;
  size_t length = strlen(EXTERN);
  return (size_t)(found - text) >= length && strncmp(found - length, EXTERN, length) == 0;
}

static module_global *read_space(const char *text, const char *space, module_global *first) {
  for (const char *found = text; (found = strstr(found, space)) != NULL; found += strlen(space))
    if (stands_alone(text, found) && !is_external(text, found)) first = read_declaration(found + strlen(space), first);
  return first;
}

module_global *globals_of_ptx(const char *text) {
  return read_space(text, ".const", read_space(text, ".global", NULL));
}

module_global *globals_of_own_text(const char *text) {
  static const char LINE[] = "\nglobal ";
  module_global *first = NULL;
  for (const char *found = text; (found = strstr(found, LINE)) != NULL;) {
    found += strlen(LINE);
    size_t length = name_length(found);
    first = add(first, found, length, strtoull(found + length, NULL, 0));
  }
  return first;
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

uint64_t globals_size(const module_global *first) {
  uint64_t sum = 0;
  for (; first != NULL; first = first->next) sum += first->size;
  return sum;
}

static CUresult place(module_global *global, CUcontext context) {
  memory range;
  if (global->context == context && memory_find(global->address, &range) && range.kind == MEMORY_GLOBAL)
    return CUDA_SUCCESS;
  memory wanted = {.size = global->size, .kind = MEMORY_GLOBAL, .context = context, .ordinal = context->ordinal};
  TRY(memory_new(&wanted, &global->address));
  global->context = context;
  TRY(memory_check_device(global->address, global->size)); /* it is written to */
  memset((void *)global->address, 0, global->size);
  memcpy((void *)global->address, global->initial, global->initial_size);
  return CUDA_SUCCESS;
}

CUresult global_find(module_global *first, const char *name, CUcontext context, CUdeviceptr *address, size_t *size) {
  while (first != NULL && strcmp(first->name, name) != 0) first = first->next;
  if (first == NULL) return CUDA_ERROR_NOT_FOUND;
  pthread_mutex_lock(&mutex);
  CUresult result = place(first, context);
  pthread_mutex_unlock(&mutex);
  if (result == CUDA_SUCCESS && address != NULL) *address = first->address;
  if (size != NULL) *size = first->size;
  return result;
}

void globals_delete(module_global *first) {
  for (module_global *next; first != NULL; first = next) {
    next = first->next;
    if (first->context != NULL) memory_free(first->address, MEMORY_GLOBAL);
    free(first);
  }
}
