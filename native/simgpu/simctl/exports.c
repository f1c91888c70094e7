/* Hides what a driver of the chosen version does not export yet.
 *
 * The libraries are built with every name there is.  In a copy that is installed, the entries of the dynamic symbol table that
 * are too new become undefined, which the dynamic linker passes over; calls within the library do not go through it.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simctl.h"

static int compare(const void *name, const void *row) { return strcmp(name, ((const export_since *)row)->name); }

static bool too_new(const char *name, uint32_t cuda_version) {
  const export_since *found = bsearch(name, EXPORTS_SINCE, EXPORTS_SINCE_COUNT, sizeof *EXPORTS_SINCE, compare);
  return found != NULL && found->cuda_version > cuda_version;
}

static void hide(unsigned char *image, const Elf64_Shdr *symbols, const Elf64_Shdr *texts, uint32_t cuda_version) {
  for (size_t at = 0; at + sizeof(Elf64_Sym) <= symbols->sh_size; at += sizeof(Elf64_Sym)) {
    Elf64_Sym symbol;
    memcpy(&symbol, image + symbols->sh_offset + at, sizeof symbol);
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= texts->sh_size) continue;
    if (!too_new((const char *)image + texts->sh_offset + symbol.st_name, cuda_version)) continue;
    symbol.st_shndx = SHN_UNDEF;
    symbol.st_value = 0;
    symbol.st_size = 0;
    memcpy(image + symbols->sh_offset + at, &symbol, sizeof symbol);
  }
}

/* The file is one that this build has just copied: its own, and well formed. */
static bool hide_in_image(unsigned char *image, size_t size, uint32_t cuda_version) {
  Elf64_Ehdr header;
  if (size < sizeof header) return false;
  memcpy(&header, image, sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_shentsize != sizeof(Elf64_Shdr)) return false;
  if (header.e_shoff + (uint64_t)header.e_shnum * sizeof(Elf64_Shdr) > size) return false;
  for (uint16_t i = 0; i < header.e_shnum; i++) {
    Elf64_Shdr symbols;
    Elf64_Shdr texts;
    memcpy(&symbols, image + header.e_shoff + i * sizeof symbols, sizeof symbols);
    if (symbols.sh_type != SHT_DYNSYM || symbols.sh_link >= header.e_shnum) continue;
    memcpy(&texts, image + header.e_shoff + symbols.sh_link * sizeof texts, sizeof texts);
    if (symbols.sh_offset + symbols.sh_size > size || texts.sh_offset + texts.sh_size > size) return false;
    hide(image, &symbols, &texts, cuda_version);
    return true;
  }
  return false;
}

int hide_exports(const char *path, uint32_t cuda_version) {
  struct stat status;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &status) != 0) return simctl_fail("%s: %s", path, strerror(errno));
  void *image = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (image == MAP_FAILED) return simctl_fail("%s: %s", path, strerror(errno));
  bool done = hide_in_image(image, (size_t)status.st_size, cuda_version);
  munmap(image, (size_t)status.st_size);
  return done ? SIMCTL_OK : simctl_fail("%s: no shared library", path);
}
