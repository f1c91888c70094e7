"""Prints the error of cuGetProcAddress for a name and a version, as stock cuda-bindings gets it."""

import sys

from native.simgpu.clients.common import call, driver

call(driver.cuInit(0))
flags = driver.CUdriverProcAddress_flags.CU_GET_PROC_ADDRESS_DEFAULT
print(int(driver.cuGetProcAddress(sys.argv[1].encode(), int(sys.argv[2]), flags)[0]))
