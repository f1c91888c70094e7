"""cupy, linked to a shared CUDA runtime; nothing here needs a kernel, since there is no compiler for one."""

from functools import partial

import cupy
import numpy as np
from cupy.cuda import memory, runtime
from native.clients.programs.common import BELOW, REST, SHARE, report

cupy.cuda.set_allocator(None)  # every array an allocation of its own
free, total = runtime.memGetInfo()
held = cupy.empty(BELOW, dtype=cupy.uint8)
refused = []
for allocate in (partial(cupy.empty, dtype=cupy.uint8), memory.malloc_managed):
    try:
        allocate(REST)
    except runtime.CUDARuntimeError as error:
        refused.append(str(error))
left = runtime.memGetInfo()[0]

sent = np.arange(1 << 18, dtype=np.float32).reshape(512, 512)
kept = cupy.asarray(sent)
copied = cupy.empty_like(kept)
stream = cupy.cuda.Stream()
copied.data.copy_from_device_async(kept.data, kept.nbytes, stream)
back = cupy.asnumpy(copied, stream=stream)
stream.synchronize()
total_of_device = runtime.getDeviceProperties(0)["totalGlobalMem"]
del held, kept, copied
whole = memory.alloc(SHARE)
del whole
report(
    free=free,
    total=total,
    total_of_device=total_of_device,
    refused=refused,
    left=left,
    same=bool((back == sent).all()),
)
