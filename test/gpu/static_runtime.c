/* A program with the CUDA runtime linked statically: sees its share, gets what is in it, is refused what is above.
 *   static_runtime LIMIT_BYTES.  Status 0 when all holds.
 * The runtime's functions are declared from its documentation: its headers need the compiler's. */
#include <stdio.h>
#include <stdlib.h>

enum { SUCCESS = 0, MEMORY_ALLOCATION = 2 };
int cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
int cudaMalloc(void **pointer, size_t bytes);
int cudaFree(void *pointer);

int main(int count, char **words) {
  if (count != 2) return 2;
  size_t limit = strtoull(words[1], NULL, 10), free_bytes = 0, total = 0;
  void *half = NULL, *more = NULL, *rest = NULL;
  int info = cudaMemGetInfo(&free_bytes, &total);
  int first = cudaMalloc(&half, limit / 2);
  int above = cudaMalloc(&more, limit);
  int freed = cudaFree(half);
  int again = cudaMalloc(&rest, limit / 2);
  printf("info %d, total %zu, first %d, above %d, freed %d, again %d\n", info, total, first, above, freed, again);
  return info != SUCCESS || total != limit || first != SUCCESS || above != MEMORY_ALLOCATION || freed != SUCCESS ||
         again != SUCCESS;
}
