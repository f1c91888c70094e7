"""numba-cuda: arrays, and a kernel that its compiler makes, linked by nvJitLink."""

import numpy as np
from native.clients.programs.common import BELOW, REST, SHARE, report
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError


@cuda.jit  # type: ignore[untyped-decorator]
def add_one(array: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> None:
    """What a GPU would do; a simulated one takes the time and does nothing."""
    index = cuda.grid(1)
    if index < array.size:
        array[index] += 1


free, total = cuda.current_context().get_memory_info()
held = cuda.device_array(BELOW, dtype=np.uint8)
try:
    cuda.device_array(REST, dtype=np.uint8)
    refused = "nothing"
except CudaAPIError as error:
    refused = str(error)
left = cuda.current_context().get_memory_info()[0]

sent = np.arange(100_000, dtype=np.float32)
array = cuda.to_device(sent)
add_one[(sent.size + 127) // 128, 128](array)
cuda.synchronize()
same = bool((array.copy_to_host() == sent).all())

del held, array
cuda.current_context().reset()
cuda.device_array(SHARE, dtype=np.uint8)
report(free=free, total=total, refused="CUDA_ERROR_OUT_OF_MEMORY" in refused, left=left, same=same)
