/* What a descriptor of the driver stands for, written on it.
 *
 * The driver hands memory to other processes as a descriptor, which says nothing to a process: not whose it is, nor how much, and with
 * NVIDIA's driver all such descriptors are one and the same file.  But they are different open file descriptions, and one that is passed
 * on stays itself.  So the guard that exports memory puts a record lock of the open file description's own kind on a range of the file:
 * it starts at a random place and is as long as the memory.  Nobody waits for such a lock, it excludes nobody (it is a reader's), and it goes
 * with the description.  Whoever has the descriptor reads it under /proc.
 */
#ifndef GUARD_TOKEN_H
#define GUARD_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

struct token {
  uint64_t name;
  uint64_t bytes;
};

/* A token that no other memory has; false when there is no randomness to be had. */
bool token_new(struct token *out, uint64_t bytes);
/* False when the descriptor carries none. */
bool token_read(int fd, struct token *out);
/* False when it cannot carry one. */
bool token_write(int fd, const struct token *token);

#endif
