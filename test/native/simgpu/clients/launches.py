"""Loads PTX and launches its kernel three times on a stream, through stock cuda-bindings, then waits for the end of input."""

import sys

from native.simgpu.clients.common import call, driver, use_device

PTX = b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry kernel() { ret; }\n"

use_device(0)
module = call(driver.cuModuleLoadData(PTX))
function = call(driver.cuModuleGetFunction(module, b"kernel"))
stream = call(driver.cuStreamCreate(0))
for _ in range(3):
    call(driver.cuLaunchKernel(function, 4, 1, 1, 128, 1, 1, 0, stream, 0, 0))
call(driver.cuStreamSynchronize(stream))
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.read()
