/* Launches as before CUDA 4, which a driver still has and pycuda still uses half of: the shape and the parameters are set on
 * the function first, then it is launched.  Of the parameters only the first is kept: no kernel here looks at another. */
#include <string.h>

#include "module.h"

CUresult cuFuncSetBlockShape(CUfunction hfunc, int x, int y, int z) {
  NEED(x > 0 && y > 0 && z > 0);
  TRY(function_check(hfunc));
  const unsigned int block[3] = {(unsigned int)x, (unsigned int)y, (unsigned int)z};
  memcpy(hfunc->legacy.block, block, sizeof block);
  return CUDA_SUCCESS;
}

CUresult cuFuncSetSharedSize(CUfunction hfunc, unsigned int bytes) {
  TRY(function_check(hfunc));
  hfunc->legacy.shared_bytes = bytes;
  return CUDA_SUCCESS;
}

CUresult cuParamSetSize(CUfunction hfunc, unsigned int numbytes) {
  NEED(numbytes <= 4096);
  return function_check(hfunc);
}

CUresult cuParamSetv(CUfunction hfunc, int offset, void *ptr, unsigned int numbytes) {
  NEED(offset >= 0 && ptr != NULL);
  TRY(function_check(hfunc));
  if ((size_t)offset < sizeof hfunc->legacy.parameter) {
    size_t room = sizeof hfunc->legacy.parameter - (size_t)offset;
    memcpy((char *)&hfunc->legacy.parameter + offset, ptr, numbytes < room ? numbytes : room);
  }
  return CUDA_SUCCESS;
}

CUresult cuParamSeti(CUfunction hfunc, int offset, unsigned int value) {
  return cuParamSetv(hfunc, offset, &value, sizeof value);
}

CUresult cuParamSetf(CUfunction hfunc, int offset, float value) {
  return cuParamSetv(hfunc, offset, &value, sizeof value);
}

CUresult cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream) {
  NEED(grid_width > 0 && grid_height > 0);
  TRY(function_check(f));
  const unsigned int *block = f->legacy.block;
  void *parameters[] = {&f->legacy.parameter};
  return cuLaunchKernel(f, (unsigned int)grid_width, (unsigned int)grid_height, 1, block[0], block[1], block[2],
                        f->legacy.shared_bytes, hStream, parameters, NULL);
}

CUresult cuLaunchGrid(CUfunction f, int grid_width, int grid_height) {
  return cuLaunchGridAsync(f, grid_width, grid_height, NULL);
}

CUresult cuLaunch(CUfunction f) { return cuLaunchGrid(f, 1, 1); }
