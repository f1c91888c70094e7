"""Launches a kernel by the functions from before CUDA 4, then waits for the end of input."""

import sys

from native.simgpu.clients.common import call, driver, use_device

PTX = b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry kernel() { ret; }\n"

use_device(0)
function = call(driver.cuModuleGetFunction(call(driver.cuModuleLoadData(PTX)), b"kernel"))
assert driver.cuLaunch(function)[0] == driver.CUresult.CUDA_ERROR_INVALID_VALUE, "it has no shape yet"
call(driver.cuFuncSetBlockShape(function, 32, 2, 1))
call(driver.cuFuncSetSharedSize(function, 1024))
call(driver.cuParamSetSize(function, 12))
call(driver.cuParamSeti(function, 0, 7))
call(driver.cuParamSetf(function, 8, 1.5))
call(driver.cuLaunch(function))
call(driver.cuLaunchGrid(function, 4, 4))
call(driver.cuLaunchGridAsync(function, 4, 4, call(driver.cuStreamCreate(0))))
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.read()
