"""What users write in a claim's or a class's `opaque.parameters`: `GpuConfig`, decoded strictly.

`v1alpha1` holds the frozen model of that version; `decode` turns JSON of any served version into it, or says what is wrong and
where.  Defaults are not applied here: an absent field stays `None`, so that class and claim can be merged field by field
(`core.resolve`).
"""

from hami_dra.api.opaque.decode import ConfigError, decode
from hami_dra.api.opaque.v1alpha1 import GpuConfig, Interval, Isolation, Limits, Memory, Priority, Qos, TimeSlicing

__all__ = [
    "ConfigError",
    "GpuConfig",
    "Interval",
    "Isolation",
    "Limits",
    "Memory",
    "Priority",
    "Qos",
    "TimeSlicing",
    "decode",
]
