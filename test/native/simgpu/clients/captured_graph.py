"""Captures three kernels of 1, 2 and 3 ms through stock cuda-bindings, launches the graph twice, and prints what it saw."""

import ctypes
import json

from native.simgpu.clients.common import call, driver, use_device

use_device(0)
module = call(driver.cuModuleLoadData(b"simgpu\nkernel simgpu_sleep(u64 ns)\n"))
function = call(driver.cuModuleGetFunction(module, b"simgpu_sleep"))
stream = call(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
begin, end = call(driver.cuEventCreate(0)), call(driver.cuEventCreate(0))
call(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
for ms in (1, 2, 3):
    call(driver.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, ((ms * 1_000_000,), (ctypes.c_uint64,)), 0))
graph = call(driver.cuStreamEndCapture(stream))
nodes, count = call(driver.cuGraphGetNodes(graph, 10))
kernel = driver.CUgraphNodeType.CU_GRAPH_NODE_TYPE_KERNEL
kernels = sum(call(driver.cuGraphNodeGetType(node)) == kernel for node in nodes[:count])
executable = call(driver.cuGraphInstantiate(graph, 0))
call(driver.cuEventRecord(begin, stream))
for _ in range(2):
    call(driver.cuGraphLaunch(executable, stream))
call(driver.cuEventRecord(end, stream))
call(driver.cuEventSynchronize(end))
print(json.dumps({"kernels": kernels, "launched_ms": call(driver.cuEventElapsedTime(begin, end))}))
