"""Makes calls of stock nvidia-ml-py on command: one JSON line in, one JSON line out.

A line names a function and its arguments; what NVML gives as a handle comes back as `{"handle": N}` and may be passed so
again.  Structures become objects of their fields, an error of NVML `{"error": CODE}`.
"""

import ctypes
import json
import sys
from typing import Any

import pynvml

HANDLES: list[Any] = []


def encode(value: Any) -> Any:
    """What JSON can carry of a value."""
    if isinstance(value, list | tuple | ctypes.Array):
        return [encode(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, ctypes.c_uint | ctypes.c_ulonglong):
        return value.value
    if hasattr(type(value), "contents"):
        HANDLES.append(value)
        return {"handle": len(HANDLES) - 1}
    if hasattr(value, "_fields_") or hasattr(value, "__dict__"):
        names = [field[0] for field in getattr(value, "_fields_", [])] or list(vars(value))
        return {name: encode(getattr(value, name)) for name in names}
    return value


def decode(value: Any) -> Any:
    """The argument that a JSON value stands for: a handle, or room for results of a type of pynvml or ctypes."""
    if not isinstance(value, dict):
        return value
    if "handle" in value:
        return HANDLES[value["handle"]]
    kind = getattr(pynvml, value["type"], None) or getattr(ctypes, value["type"])
    if "length" in value:
        return (kind * value["length"])()
    return kind(*value.get("value", []))


def answer(line: str) -> dict[str, Any]:
    """Make the call of one line; with the result come the arguments that had room for results."""
    wish = json.loads(line)
    values = [decode(argument) for argument in wish["arguments"]]
    outputs = [value for value, given in zip(values, wish["arguments"], strict=True) if "type" in dict_or_empty(given)]
    passed = [ctypes.byref(value) if isinstance(value, ctypes.c_uint | ctypes.Structure) else value for value in values]
    try:
        result = getattr(pynvml, wish["call"])(*passed)
    except pynvml.NVMLError as error:
        return {"error": error.value}
    return {"value": encode(result), "outputs": [encode(value) for value in outputs]}


def dict_or_empty(value: Any) -> dict[str, Any]:
    """The value if it is an object."""
    return value if isinstance(value, dict) else {}


def main() -> None:
    """Answer until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line)), flush=True)


main()
