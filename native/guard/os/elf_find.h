/* Finding a function in a loaded library by reading its symbol table, without the dynamic linker's help. */
#ifndef GUARD_ELF_FIND_H
#define GUARD_ELF_FIND_H

#include <stdbool.h>

/* The address of an exported function of the first loaded object whose file name is library; NULL when there is none. */
void *elf_find(const char *library, const char *function);

/* Whether two texts are the same.  Not strcmp: what answers dlsym may be asked for strcmp itself, by a library in front of it (a
 * sanitizer's runtime) whose own strcmp waits for the answer. */
bool elf_same(const char *a, const char *b);

#endif
