/* Memory that other processes can map: a file without a name, and behind its bytes a page that says what it is.
 *
 * Descriptors are what processes hand to each other, as with the real driver; whatever else comes in is refused by its
 * missing note.
 */
#ifndef SIMGPU_CUDA_BACKING_H
#define SIMGPU_CUDA_BACKING_H

#include "driver.h"
#include "share.h"

typedef enum backing_kind {
  BACKING_PHYSICAL = 1, /* cuMemCreate */
  BACKING_LINEAR,       /* an allocation that was exported by cuIpcGetMemHandle */
  BACKING_POOL,
} backing_kind;

typedef struct backing_note {
  char magic[8];
  uint32_t kind;
  uint32_t on_card; /* false: host memory */
  char uuid[48];    /* of the card */
  uint64_t size;
  sim_share_name share;
  CUmemAllocationProp properties;
  CUmemPoolProps pool;
} backing_note;

/* A new file of note->size bytes, and its note; -1 when out of memory. */
int backing_new(const backing_note *note);

/* Writes the note anew. */
bool backing_write(int fd, const backing_note *note);

/* Reads it; false if the file is none of ours, or of another kind. */
bool backing_read(int fd, backing_kind kind, backing_note *note);

/* The device with that note's card, or CUDA_ERROR_INVALID_DEVICE. */
CUresult backing_device(const backing_note *note, CUdevice *ordinal);

/* Maps `size` bytes of it, at `address` or, for NULL, anywhere; NULL when out of memory. */
void *backing_map(int fd, uint64_t offset, size_t size, void *address);

#endif
