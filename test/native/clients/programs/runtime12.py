"""cuda-python 12: its runtime module, which is written over the driver API."""

import ctypes
from typing import Any

from cuda.bindings import runtime
from native.clients.programs.common import BELOW, REST, SHARE, report

OK = runtime.cudaError_t.cudaSuccess


def call(answer: tuple[Any, ...]) -> Any:
    """The values of a call that succeeded."""
    assert answer[0] == OK, answer
    return answer[1] if len(answer) == 2 else answer[1:]


call(runtime.cudaSetDevice(0))
free, total = call(runtime.cudaMemGetInfo())
held = call(runtime.cudaMalloc(BELOW))
stream = call(runtime.cudaStreamCreate())
refused = {
    answer[0].name
    for answer in (
        runtime.cudaMalloc(REST),
        runtime.cudaMallocManaged(REST, runtime.cudaMemAttachGlobal),
        runtime.cudaMallocAsync(REST, stream),
    )
}
left = call(runtime.cudaMemGetInfo())[0]

kinds = runtime.cudaMemcpyKind
sent, back = ctypes.create_string_buffer(bytes(range(256)), 256), ctypes.create_string_buffer(256)
call(runtime.cudaMemcpy(held, ctypes.addressof(sent), 256, kinds.cudaMemcpyHostToDevice))
call(runtime.cudaMemcpy(ctypes.addressof(back), held, 256, kinds.cudaMemcpyDeviceToHost))
call(runtime.cudaFree(held))
call(runtime.cudaFree(call(runtime.cudaMalloc(SHARE))))
report(free=free, total=total, refused=sorted(refused), left=left, same=back.raw == sent.raw)
