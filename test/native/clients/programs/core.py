"""cuda.core: device, memory resource, a program compiled by NVRTC, launch."""

import ctypes

from cuda.bindings import driver
from cuda.core import Device, LaunchConfig, Program, ProgramOptions, launch
from native.clients.programs.common import BELOW, REST, report

SOURCE = 'extern "C" __global__ void nothing(unsigned char *bytes) { }'

device = Device(0)
device.set_current()
stream = device.create_stream()
free, total = driver.cuMemGetInfo()[1:]
held = device.allocate(BELOW, stream=stream)
try:
    device.allocate(REST, stream=stream)
    refused = "nothing"
except Exception as error:  # noqa: BLE001 - which class it is, is what is looked at
    refused = f"{type(error).__name__}: {error}"
left = driver.cuMemGetInfo()[1]

options = ProgramOptions(arch=f"sm_{device.arch}")
kernel = Program(SOURCE, code_type="c++", options=options).compile("cubin").get_kernel("nothing")
launch(stream, LaunchConfig(grid=4, block=128), kernel, held)
sent, back = bytes(range(256)), ctypes.create_string_buffer(256)
driver.cuMemcpyHtoD(int(held.handle), sent, 256)
stream.sync()
driver.cuMemcpyDtoH(back, int(held.handle), 256)
held.close(stream)
stream.sync()
report(free=free, total=total, refused="OUT_OF_MEMORY" in refused, left=left, same=back.raw == sent)
