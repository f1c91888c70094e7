"""Allocates, waits for a line, then prints what CUDA answers to the calls that follow."""

import json
import sys

from native.simgpu.clients.common import call, driver, use_device

use_device(0)
address = call(driver.cuMemAlloc(1 << 20))
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
answers = {
    "allocate": int(driver.cuMemAlloc(1 << 20)[0]),
    "free": int(driver.cuMemFree(address)[0]),
    "info": int(driver.cuMemGetInfo()[0]),
}
print(json.dumps(answers))
