"""Prints which of the given names the driver exports, and what both ABIs of cuGetProcAddress say of them."""

import ctypes
import json
import sys

NEWEST = 13050
cuda = ctypes.CDLL("libcuda.so.1")
nvml = ctypes.CDLL("libnvidia-ml.so.1")
version = ctypes.c_int()
cuda.cuInit(0)
cuda.cuDriverGetVersion(ctypes.byref(version))
found = ctypes.c_void_p()
status = ctypes.c_int()
newer_abi = hasattr(cuda, "cuGetProcAddress_v2")
by_name = {}
for name in sys.argv[1:]:
    text = name.encode()
    answers: dict[str, int] = {"exported": hasattr(nvml if name.startswith("nvml") else cuda, name)}
    if hasattr(cuda, "cuGetProcAddress"):
        answers["address"] = cuda.cuGetProcAddress(text, ctypes.byref(found), NEWEST, ctypes.c_uint64(0))
    if newer_abi:
        arguments = (text, ctypes.byref(found), NEWEST, ctypes.c_uint64(0), ctypes.byref(status))
        answers["address_v2"] = cuda.cuGetProcAddress_v2(*arguments)
        answers["status"] = status.value
    by_name[name] = answers
print(json.dumps({"cuda": version.value, "names": by_name}))
