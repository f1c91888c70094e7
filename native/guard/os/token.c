#include "token.h"

#include <string.h>

#include "prim.h"

/* All names lie above what programs lock, and with the longest memory behind them still are offsets. */
static const uint64_t FIRST = (uint64_t)1 << 62, MOST_BYTES = (uint64_t)1 << 60;

bool token_new(struct token *out, uint64_t bytes) {
  *out = (struct token){.bytes = bytes};
  if (bytes == 0 || bytes > MOST_BYTES || prim_random(&out->name, sizeof out->name) != 0) return false;
  out->name = FIRST | (out->name & (FIRST / 2 - 1));
  return true;
}

bool token_write(int fd, const struct token *token) { return prim_mark(fd, token->name, token->bytes) == 0; }

static const char *number(const char *text, uint64_t *out) {
  *out = 0;
  while (*text == ' ') text++;
  for (; *text >= '0' && *text <= '9'; text++) *out = *out * 10 + (uint64_t)(*text - '0');
  return text;
}

/* A line as "lock:\t1: OFDLCK ADVISORY  READ -1 00:01:2048 4611686018427387904 4611686018427387999". */
static bool parse(const char *line, struct token *out) {
  const char *at = strstr(line, "OFDLCK"), *end = strchr(line, '\n');
  uint64_t last;
  if (at == NULL || (end != NULL && at > end) || (at = strstr(at, " READ ")) == NULL) return false;
  for (int words = 0; words < 3; words++) { /* READ, whose it is, the file */
    at = strchr(at, ' ');
    if (at == NULL) return false;
    while (*at == ' ') at++;
    if (words < 2) at += strcspn(at, " ");
  }
  at += strcspn(at, " ");
  at = number(number(at, &out->name), &last);
  out->bytes = last - out->name + 1;
  return out->name >= FIRST && last >= out->name && out->bytes <= MOST_BYTES;
}

bool token_read(int fd, struct token *out) {
  char path[64] = "/proc/self/fdinfo/", digits[16], text[4096];
  size_t length = strlen(path);
  int count = 0;
  if (fd < 0) return false;
  do {
    digits[count++] = (char)('0' + fd % 10);
  } while ((fd /= 10) != 0);
  while (count > 0) path[length++] = digits[--count];
  PRIM_AUTOCLOSE int info = prim_open(path, false);
  if (info < 0) return false;
  size_t filled = prim_read(info, text, sizeof text - 1);
  text[filled] = '\0';
  for (const char *line = strstr(text, "lock:"); line != NULL; line = strstr(line + 1, "lock:"))
    if (parse(line, out)) return true;
  return false;
}
