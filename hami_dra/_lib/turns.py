"""Short turns on the processor.

Linux shares a processor in turns of a few milliseconds, and who asks for shorter ones gets them sooner (EEVDF: the earliest
deadline goes first) without getting more.  A process that works for a millisecond when it is called, on a machine that is busy
with what the call is about, waits less that way.  It takes no privilege; kernels before 6.12 know no such wish and ignore it.
Threads inherit it from the thread that starts them, so it is asked for before there are any.
"""

import ctypes
import platform
import struct

__all__ = ["ask_for_short_turns"]

_TURN_NS = 100_000
"""The shortest that Linux grants."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""System call numbers; the C library of older systems has no function for it."""
_ATTRIBUTES = "=IIQiIQQQ"
"""struct sched_attr, first version: size, policy (0: SCHED_OTHER), flags, nice, priority, runtime, deadline, period."""


def ask_for_short_turns(*, machine: str = platform.machine()) -> bool:
    """Ask for the calling thread; says whether the kernel took the wish."""
    number = _SCHED_SETATTR.get(machine)
    if number is None:
        return False
    attributes = struct.pack(_ATTRIBUTES, struct.calcsize(_ATTRIBUTES), 0, 0, 0, 0, _TURN_NS, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(number, 0, attributes, 0)) == 0
