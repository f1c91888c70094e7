"""What the guard declares of CUDA and NVML is what NVIDIA's headers say."""

import re
import subprocess
from pathlib import Path

import pytest
from native.guard.conftest import compile_c

from hacklib.native.headers import cuda_include_dir
from hacklib.paths import REPOSITORY
from hacklib.ui import Ui

SOURCES = REPOSITORY / "native" / "guard"

pytestmark = pytest.mark.native

LAYOUT = """
#include <stddef.h>
#include <stdio.h>
#define SIZE(type) printf(#type " %zu\\n", sizeof(type));
#define AT(type, field) printf(#type "." #field " %zu %zu\\n", offsetof(type, field), sizeof(((type *)0)->field));
int main(void) {
  SIZE(CUresult) SIZE(CUdevice) SIZE(CUdeviceptr) SIZE(CUuuid) SIZE(CUmemGenericAllocationHandle) SIZE(nvmlReturn_t)
  SIZE(CUDA_ARRAY_DESCRIPTOR) AT(CUDA_ARRAY_DESCRIPTOR, Format) AT(CUDA_ARRAY_DESCRIPTOR, NumChannels)
  SIZE(CUDA_ARRAY3D_DESCRIPTOR) AT(CUDA_ARRAY3D_DESCRIPTOR, Depth) AT(CUDA_ARRAY3D_DESCRIPTOR, Format)
  AT(CUDA_ARRAY3D_DESCRIPTOR, NumChannels) AT(CUDA_ARRAY3D_DESCRIPTOR, Flags)
  SIZE(CUmemLocation) AT(CUmemPoolProps, location.type) AT(CUmemPoolProps, location.id)
  AT(CUmemAllocationProp, location.type) AT(CUmemAllocationProp, location.id)
  SIZE(nvmlMemory_t) AT(nvmlMemory_t, free) AT(nvmlMemory_t, used)
  SIZE(nvmlMemory_v2_t)
  AT(nvmlMemory_v2_t, total) AT(nvmlMemory_v2_t, reserved) AT(nvmlMemory_v2_t, free) AT(nvmlMemory_v2_t, used)
  printf("%d %d\\n", CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_NOT_INITIALIZED);
  printf("%d %d\\n", CU_MEM_LOCATION_TYPE_DEVICE, NVML_ERROR_UNINITIALIZED);
  printf("%d %d\\n", CU_AD_FORMAT_HALF, CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING);
  return 0;
}
"""


def _layout(directory: Path, name: str, includes: str, *flags: str) -> str:
    source = directory / f"{name}.c"
    source.write_text(includes + LAYOUT)
    program = compile_c(directory / name, source, *flags)
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout


def test_structures_and_constants_are_nvidias(tmp_path: Path) -> None:
    """Sizes, offsets and values agree with cuda.h and nvml.h."""
    ours = _layout(tmp_path, "ours", '#include "cuda_api.h"\n')
    theirs = _layout(tmp_path, "theirs", "#include <cuda.h>\n#include <nvml.h>\n", f"-I{cuda_include_dir(ui=Ui())}")
    assert ours == theirs


def test_every_hook_is_a_function_of_the_headers_with_as_many_parameters() -> None:
    """No hook has a name that NVIDIA does not declare, and each takes what the declaration takes."""
    include = cuda_include_dir(ui=Ui())
    text = (include / "cuda.h").read_text() + (include / "nvml.h").read_text()
    declared = {
        name: parameters.count(",") + 1
        for name, parameters in re.findall(r"\b(cu[A-Z]\w+|nvml[A-Z]\w+)\s*\(([^()]*)\);", text)
    }
    hooks = re.findall(r"X\((?:CUDA|NVML), (\w+), (\w+), \d+, (\w+)\)", (SOURCES / "hooks" / "hooks.h").read_text())
    ours = {
        name: parameters.count(",") + 1
        for name, parameters in re.findall(r"\b(\w+)\(([^()]*)\);", (SOURCES / "hooks" / "cuda_api.h").read_text())
    }
    assert len(hooks) > 40
    for name, base, _ in hooks:
        known = declared.get(name) or declared.get(base)
        assert known == ours[name] or (name, known) == ("cuGetProcAddress", 5), name
