"""Device arrays, streams and pinned memory of stock numba-cuda."""

import json

import numpy as np
from numba import cuda


def main() -> None:
    """Print the figures; a wrong byte ends the program with a status."""
    before = cuda.current_context().get_memory_info()
    sent = np.arange(100_000, dtype=np.float32)
    stream = cuda.stream()
    device_array = cuda.to_device(sent, stream=stream)
    stream.synchronize()
    assert (device_array.copy_to_host() == sent).all()
    assert (device_array[100:200].copy_to_host() == sent[100:200]).all()
    cuda.pinned_array(1000)
    used = before.free - cuda.current_context().get_memory_info().free
    try:
        cuda.device_array(before.total + 1, dtype=np.int8)
    except cuda.cudadrv.driver.CudaAPIError as error:
        refused = str(error)
    names = [device.name if isinstance(device.name, str) else device.name.decode() for device in cuda.gpus.lst]
    print(json.dumps({"names": names, "used": used, "wanted": sent.nbytes, "refused": refused}))


main()
