"""pycuda: C++ that is linked to libcuda."""

import numpy as np
import pycuda.driver as cuda
from native.clients.programs.common import BELOW, PTX, REST, SHARE, report

cuda.init()
device = cuda.Device(0)
context = device.retain_primary_context()
context.push()
free, total = cuda.mem_get_info()
held = cuda.mem_alloc(BELOW)
refused = []
for allocate in (cuda.mem_alloc, lambda size: cuda.mem_alloc_pitch(size >> 10, 1 << 10, 4)):
    try:
        allocate(REST)
    except cuda.MemoryError as error:
        refused.append(str(error))
left = cuda.mem_get_info()[0]

sent = np.arange(100_000, dtype=np.float32)
back = np.empty_like(sent)
array = cuda.mem_alloc(sent.nbytes)
cuda.memcpy_htod(array, sent)
stream = cuda.Stream()
cuda.module_from_buffer(PTX).get_function("nothing")(array, block=(128, 1, 1), grid=(4, 1), stream=stream)
stream.synchronize()
cuda.memcpy_dtoh(back, array)

held.free()
array.free()
cuda.mem_alloc(SHARE).free()
context.pop()
report(
    free=free,
    total=total,
    total_of_device=device.total_memory(),
    refused=[("out of memory" in words) for words in refused],
    left=left,
    same=bool((back == sent).all()),
)
