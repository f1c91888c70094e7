"""Prints what CUDA says in a child that was forked after cuInit, and in its parent afterwards."""

import json
import os

from native.simgpu.clients.common import call, driver, use_device

use_device(0)
call(driver.cuMemAlloc(1 << 20))
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    answers = [int(driver.cuInit(0)[0]), int(driver.cuMemAlloc(1)[0]), int(driver.cuDeviceGetCount()[0])]
    os.write(writing, json.dumps(answers).encode())
    os._exit(0)
os.waitpid(child, 0)
free, total = call(driver.cuMemGetInfo())
print(json.dumps({"child": json.loads(os.read(reading, 100)), "parent_used": total - free}))
