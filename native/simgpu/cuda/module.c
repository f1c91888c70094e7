/* An image is checked for being one, and its kernels are found by name: PTX lists them as `.entry NAME`, ELF has a
 * section `.text.NAME` for each, simgpu's own text has lines `kernel NAME(PARAMETERS)`; whatever else is compressed or
 * packed is taken at its word. */
#include "module.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FATBIN_MAGIC 0xba55ed50u         /* of fatbinary data, in fatbinary.h */
#define FATBIN_WRAPPER_MAGIC 0x466243b1u /* of the structure that points to it */
#define MOST_FILE_BYTES (256L << 20)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static bool add_function(CUmodule module, const char *name, size_t length) {
  CUfunction function = object_new(OBJECT_FUNCTION, sizeof *function);
  if (function == NULL) return false;
  snprintf(function->name, sizeof function->name, "%.*s", (int)length, name);
  function->sleeps = strcmp(function->name, SLEEP_KERNEL) == 0;
  function->module = module;
  function->next = module->functions;
  module->functions = function;
  module->function_count++;
  return true;
}

/* Adds the names that follow `entry` in a text. */
static bool read_text(CUmodule module, const char *text, const char *entry) {
  static const char BLANKS[] = " \t\r\n";
  bool good = true;
  for (const char *found = text; good && (found = strstr(found, entry)) != NULL;) {
    found += strlen(entry);
    found += strspn(found, BLANKS);
    size_t length = strcspn(found, " \t\r\n(");
    if (length > 0) good = add_function(module, found, length);
  }
  return good;
}

/* The program trusts the driver with its image: sizes come from the image itself, as they must for the real one. */
static bool read_elf(CUmodule module, const unsigned char *image) {
  static const char PREFIX[] = ".text.";
  Elf64_Ehdr header;
  memcpy(&header, image, sizeof header);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof(Elf64_Shdr) ||
      header.e_shstrndx >= header.e_shnum)
    return header.e_shnum == 0;
  Elf64_Shdr names;
  memcpy(&names, image + header.e_shoff + header.e_shstrndx * sizeof names, sizeof names);
  bool good = true;
  for (uint16_t i = 0; good && i < header.e_shnum; i++) {
    Elf64_Shdr section;
    memcpy(&section, image + header.e_shoff + i * sizeof section, sizeof section);
    if (section.sh_name >= names.sh_size) continue;
    const char *name = (const char *)image + names.sh_offset + section.sh_name;
    if (strncmp(name, PREFIX, strlen(PREFIX)) == 0)
      good = add_function(module, name + strlen(PREFIX), strlen(name) - strlen(PREFIX));
  }
  return good;
}

static bool is_ptx(const char *text) {
  text += strspn(text, " \t\r\n");
  return strncmp(text, ".version", 8) == 0 || strncmp(text, "//", 2) == 0 || strncmp(text, "/*", 2) == 0;
}

static bool is_own(const char *text) { return strncmp(text, "simgpu\n", 7) == 0; }

static CUresult read_image(CUmodule module, const void *image) {
  uint32_t magic;
  memcpy(&magic, image, sizeof magic);
  module->open_ended = magic == FATBIN_MAGIC || magic == FATBIN_WRAPPER_MAGIC;
  if (module->open_ended) return CUDA_SUCCESS;
  if (memcmp(image, ELFMAG, SELFMAG) == 0) return read_elf(module, image) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
  const char *entry = is_ptx(image) ? ".entry" : is_own(image) ? "\nkernel " : NULL;
  if (entry == NULL) return CUDA_ERROR_INVALID_IMAGE;
  module->globals = is_ptx(image) ? globals_of_ptx(image) : globals_of_own_text(image);
  return read_text(module, image, entry) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* Bytes of an image, by its own header where it has one. */
static uint64_t image_size(const void *image) {
  uint32_t magic;
  uint64_t size;
  memcpy(&magic, image, sizeof magic);
  if (magic == FATBIN_WRAPPER_MAGIC) {
    struct wrapper {
      uint32_t magic, version;
      const void *data;
    } wrapper;
    memcpy(&wrapper, image, sizeof wrapper);
    image = wrapper.data;
    memcpy(&magic, image, sizeof magic);
  }
  if (magic == FATBIN_MAGIC) {
    memcpy(&size, (const char *)image + 8, sizeof size); /* of what follows the header's 16 bytes */
    return size + 16;
  }
  if (memcmp(image, ELFMAG, SELFMAG) != 0) return strlen(image);
  Elf64_Ehdr header;
  memcpy(&header, image, sizeof header);
  return header.e_shoff + (uint64_t)header.e_shnum * header.e_shentsize;
}

/* As CUDA_MODULE_LOADING says; lazily by default. */
static bool eager(void) {
  const char *mode = getenv("CUDA_MODULE_LOADING");
  return mode != NULL && strcmp(mode, "EAGER") == 0;
}

static CUresult module_load(CUmodule module, CUcontext context) {
  if (module->cost.context != NULL) return CUDA_SUCCESS;
  return context_charge(context, module->image_bytes + globals_size(module->globals), &module->cost);
}

CUresult module_new(const void *image, CUcontext context, CUmodule *made) {
  NEED(image != NULL);
  CUmodule module = object_new(OBJECT_MODULE, sizeof *module);
  if (module == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  module->context = context;
  CUresult result = read_image(module, image);
  module->image_bytes = result == CUDA_SUCCESS ? image_size(image) : 0;
  if (result == CUDA_SUCCESS && context != NULL && eager()) result = module_load(module, context);
  if (result == CUDA_SUCCESS)
    *made = module;
  else
    module_delete(module);
  return result;
}

CUresult module_new_from_file(const char *path, CUcontext context, CUmodule *made) {
  NEED(path != NULL);
  FILE *file = fopen(path, "rbe");
  if (file == NULL) return CUDA_ERROR_FILE_NOT_FOUND;
  long size = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
  rewind(file);
  /* Text ends with a NUL in memory. */
  char *image = size > 4 && size <= MOST_FILE_BYTES ? calloc(1, (size_t)size + 1) : NULL;
  CUresult result = CUDA_ERROR_INVALID_IMAGE;
  if (image != NULL && fread(image, 1, (size_t)size, file) == (size_t)size) result = module_new(image, context, made);
  free(image);
  fclose(file);
  return result;
}

void module_delete(CUmodule module) {
  for (CUfunction function = module->functions, next; function != NULL; function = next) {
    next = function->next;
    object_delete(function);
  }
  globals_delete(module->globals);
  context_discharge(&module->cost);
  object_delete(module);
}

CUresult module_function(CUmodule module, const char *name, CUfunction *function) {
  NEED(name != NULL);
  pthread_mutex_lock(&mutex);
  CUfunction found = module->functions;
  while (found != NULL && strcmp(found->name, name) != 0) found = found->next;
  if (found == NULL && module->open_ended && add_function(module, name, strlen(name))) found = module->functions;
  *function = found;
  CUcontext context = module->context;
  CUresult result = found != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  /* A library's code goes to the card of whoever asks first. */
  if (found != NULL && (context != NULL || context_current(&context) == CUDA_SUCCESS))
    result = module_load(module, context);
  pthread_mutex_unlock(&mutex);
  return result;
}

CUresult function_check(CUfunction function) {
  TRY(driver_ready());
  return object_is(function, OBJECT_FUNCTION) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* ---- the driver's functions -------------------------------------------------------------------------------------- */

static CUresult module_check(CUmodule module) {
  TRY(driver_ready());
  return object_is(module, OBJECT_MODULE) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  CUcontext current;
  NEED(module != NULL);
  TRY(context_current(&current));
  return module_new(image, current, module);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions, CUjit_option *options,
                            void **optionValues) {
  NEED(numOptions == 0 || (options != NULL && optionValues != NULL));
  return cuModuleLoadData(module, image);
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin) { return cuModuleLoadData(module, fatCubin); }

CUresult cuModuleLoad(CUmodule *module, const char *fname) {
  CUcontext current;
  NEED(module != NULL);
  TRY(context_current(&current));
  return module_new_from_file(fname, current, module);
}

CUresult cuModuleUnload(CUmodule hmod) {
  TRY(module_check(hmod));
  module_delete(hmod);
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name) {
  NEED(hfunc != NULL);
  TRY(module_check(hmod));
  return module_function(hmod, name, hfunc);
}

CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule mod) {
  NEED(count != NULL);
  TRY(module_check(mod));
  *count = mod->function_count;
  return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int numFunctions, CUmodule mod) {
  NEED(functions != NULL && numFunctions > 0);
  TRY(module_check(mod));
  CUfunction function = mod->functions;
  for (unsigned int i = 0; i < numFunctions && function != NULL; i++, function = function->next)
    functions[i] = function;
  return CUDA_SUCCESS;
}

CUresult module_variable(CUmodule module, const char *name, CUdeviceptr *address, size_t *size) {
  CUcontext context;
  NEED((address != NULL || size != NULL) && name != NULL);
  TRY(context_or_current(module->context, &context));
  TRY(module_load(module, context));
  return global_find(module->globals, name, context, address, size);
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod, const char *name) {
  TRY(module_check(hmod));
  return module_variable(hmod, name, dptr, bytes);
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode) {
  NEED(mode != NULL);
  TRY(driver_ready());
  *mode = eager() ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}
