/* Finding a function in a loaded library by reading its symbol table, without the dynamic linker's help. */
#ifndef GUARD_ELF_FIND_H
#define GUARD_ELF_FIND_H

/* The address of an exported function of the first loaded object whose file name is library; NULL when there is none. */
void *elf_find(const char *library, const char *function);

#endif
