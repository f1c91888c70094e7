/* Blocks of address space for what the driver allocates itself.
 *
 * A block is a power of two from 4 KiB to 32 MiB, carved from spans of 32 MiB, or a span of its own, a multiple of 32
 * MiB.  Freed blocks stay mapped and are handed out again, which costs no system call; the pages of those that hold
 * much data go back to the kernel first (arena_clear).  Address space is all that the rounding costs, since pages are
 * backed when they are touched.  A table with one entry for each 32 MiB of the address space leads from any address to
 * its block.
 *
 * Nothing here is locked: memory.c calls under its mutex, arena_clear excepted.
 */
#ifndef SIMGPU_CUDA_ARENA_H
#define SIMGPU_CUDA_ARENA_H

#include "memory.h"

/* A free block of at least `size` bytes: its record, of which `base` is set; NULL when out of memory. */
memory *arena_take(size_t size);

/* Makes the block of `range`, which no longer is in use, available again. */
void arena_give(memory *range);

/* The range in use around the address, or NULL. */
memory *arena_find(uintptr_t address);

/* Whether a block should be cleared before it is given back. */
bool arena_must_clear(const memory *range);

/* Gives the block's pages back to the kernel. */
void arena_clear(const memory *range);

/* Puts fresh pages where the block's were replaced by those of a file. */
void arena_take_back(const memory *range);

#endif
