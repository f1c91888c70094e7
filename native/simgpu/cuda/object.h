/* Things behind CUDA's opaque handles.
 *
 * An object's memory is never returned to the allocator, only reused for objects of its kind, so that a stale handle is
 * recognised instead of crashing.
 */
#ifndef SIMGPU_CUDA_OBJECT_H
#define SIMGPU_CUDA_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum object_kind {
  OBJECT_CONTEXT = 1,
  OBJECT_STREAM,
  OBJECT_EVENT,
  OBJECT_POOL,
  OBJECT_PHYSICAL,
  OBJECT_ARRAY,
  OBJECT_MIPMAP,
  OBJECT_MODULE,
  OBJECT_FUNCTION,
  OBJECT_LIBRARY,
  OBJECT_LINK,
  OBJECT_EXTERNAL,
  OBJECT_GRAPH,
  OBJECT_GRAPH_NODE,
  OBJECT_GRAPH_EXEC,
  OBJECT_KIND_COUNT,
} object_kind;

/* The first member of each. */
typedef struct object {
  uint32_t mark;
  uint32_t kind;
  struct object *next; /* free ones */
  unsigned long long id;
} object;

/* A zeroed object of `size` bytes, the same for all of its kind; NULL when out of memory. */
void *object_new(object_kind kind, size_t size);

/* Whether the handle is a live object of that kind. */
bool object_is(const void *handle, object_kind kind);

void object_delete(void *handle);

#endif
