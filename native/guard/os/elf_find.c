#include "elf_find.h"

#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>

bool elf_same(const char *a, const char *b) {
  while (*a != '\0' && *a == *b) a++, b++;
  return *a == *b;
}

static const char *file_name(const char *path) {
  const char *name = path;
  for (; *path != '\0'; path++) {
    if (*path == '/') name = path + 1;
  }
  return name;
}

struct search {
  const char *library;
  const char *function;
  void *found;
};

struct symbols {
  const ElfW(Sym) * table;
  const char *strings;
  const uint32_t *gnu_hash;
  const uint32_t *sysv_hash;
};

static const void *address(const struct dl_phdr_info *object, ElfW(Addr) value) {
  /* glibc relocates these entries in place, except where the section is read-only */
  return (const void *)(value < object->dlpi_addr ? object->dlpi_addr + value : value);
}

static struct symbols symbols_of(const struct dl_phdr_info *object, const ElfW(Dyn) * entry) {
  struct symbols found = {NULL, NULL, NULL, NULL};
  for (; entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_SYMTAB) found.table = address(object, entry->d_un.d_ptr);
    if (entry->d_tag == DT_STRTAB) found.strings = address(object, entry->d_un.d_ptr);
    if (entry->d_tag == DT_GNU_HASH) found.gnu_hash = address(object, entry->d_un.d_ptr);
    if (entry->d_tag == DT_HASH) found.sysv_hash = address(object, entry->d_un.d_ptr);
  }
  return found;
}

/* One more than the highest symbol that either hash table knows. */
static uint32_t symbol_count(const struct symbols *symbols) {
  if (symbols->sysv_hash != NULL) return symbols->sysv_hash[1];
  const uint32_t *hash = symbols->gnu_hash;
  if (hash == NULL) return 0;
  uint32_t buckets = hash[0], first = hash[1], words = hash[2], last = 0;
  const uint32_t *bucket = hash + 4 + words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
  const uint32_t *chain = bucket + buckets;
  for (uint32_t i = 0; i < buckets; i++) {
    if (bucket[i] > last) last = bucket[i];
  }
  if (last < first) return 0;
  while ((chain[last - first] & 1u) == 0) last++;
  return last + 1;
}

static void *function_of(const struct dl_phdr_info *object, const ElfW(Dyn) * dynamic, const char *name) {
  struct symbols symbols = symbols_of(object, dynamic);
  if (symbols.table == NULL || symbols.strings == NULL) return NULL;
  uint32_t count = symbol_count(&symbols);
  for (uint32_t i = 0; i < count; i++) {
    const ElfW(Sym) *symbol = &symbols.table[i];
    if (symbol->st_shndx == SHN_UNDEF || (symbol->st_info & 0xf) != STT_FUNC) continue;
    if (elf_same(symbols.strings + symbol->st_name, name)) return (void *)(object->dlpi_addr + symbol->st_value);
  }
  return NULL;
}

static int visit(struct dl_phdr_info *object, size_t size, void *context) {
  struct search *search = context;
  (void)size;
  if (!elf_same(file_name(object->dlpi_name), search->library)) return 0;
  for (uint16_t i = 0; i < object->dlpi_phnum && search->found == NULL; i++) {
    const ElfW(Phdr) *header = &object->dlpi_phdr[i];
    if (header->p_type != PT_DYNAMIC) continue;
    search->found = function_of(object, (const ElfW(Dyn) *)(object->dlpi_addr + header->p_vaddr), search->function);
  }
  return search->found != NULL;
}

void *elf_find(const char *library, const char *function) {
  struct search search = {library, function, NULL};
  (void)dl_iterate_phdr(visit, &search);
  return search.found;
}
