/* The JIT linker: joins PTX texts into one, which is what its result is; of other inputs it keeps the last. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "module.h"

struct CUlinkState_st {
  object object;
  char *image;
  size_t size; /* without the NUL at its end */
  bool text;
};

static CUresult link_check(CUlinkState state) {
  TRY(driver_ready());
  return object_is(state, OBJECT_LINK) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* Appends a text to a text; anything else takes the place of what was there. */
static CUresult add(CUlinkState state, const void *data, size_t size, bool text) {
  size_t kept = text && state->text ? state->size : 0;
  if (size > SIZE_MAX / 4) return CUDA_ERROR_OUT_OF_MEMORY;
  char *grown = realloc(state->image, kept + size + 2);
  if (grown == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  memcpy(grown + kept, data, size);
  if (text) size = strnlen(grown + kept, size);
  grown[kept + size] = '\n';
  grown[kept + size + 1] = '\0';
  state->image = grown;
  state->size = kept + size + 1;
  state->text = text;
  return CUDA_SUCCESS;
}

CUresult cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options, void **optionValues, CUlinkState *stateOut) {
  CUcontext current;
  NEED(stateOut != NULL && (numOptions == 0 || (options != NULL && optionValues != NULL)));
  TRY(context_current(&current));
  CUlinkState state = object_new(OBJECT_LINK, sizeof *state);
  if (state == NULL) return CUDA_ERROR_OUT_OF_MEMORY;
  state->text = true;
  *stateOut = state;
  return CUDA_SUCCESS;
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size, const char *name,
                          unsigned int numOptions, CUjit_option *options, void **optionValues) {
  (void)name;
  (void)numOptions;
  (void)options;
  (void)optionValues;
  TRY(link_check(state));
  NEED(data != NULL && size > 0 && type < CU_JIT_NUM_INPUT_TYPES);
  return add(state, data, size, type == CU_JIT_INPUT_PTX);
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path, unsigned int numOptions,
                          CUjit_option *options, void **optionValues) {
  char block[8192];
  TRY(link_check(state));
  NEED(path != NULL);
  FILE *file = fopen(path, "rbe");
  if (file == NULL) return CUDA_ERROR_FILE_NOT_FOUND;
  char *data = NULL;
  size_t size = 0;
  CUresult result = CUDA_SUCCESS;
  for (size_t got; result == CUDA_SUCCESS && (got = fread(block, 1, sizeof block, file)) > 0;) {
    char *grown = realloc(data, size + got);
    result = grown != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    if (grown == NULL) break;
    data = grown;
    memcpy(data + size, block, got);
    size += got;
  }
  fclose(file);
  if (result == CUDA_SUCCESS)
    result = cuLinkAddData_v2(state, type, data, size, path, numOptions, options, optionValues);
  free(data);
  return result;
}

CUresult cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut) {
  TRY(link_check(state));
  NEED(cubinOut != NULL && state->image != NULL);
  *cubinOut = state->image;
  if (sizeOut != NULL) *sizeOut = state->size + 1;
  return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state) {
  TRY(link_check(state));
  free(state->image);
  object_delete(state);
  return CUDA_SUCCESS;
}
