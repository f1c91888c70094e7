"""Strict decoding of `GpuConfig`.

Unknown fields, unknown values and duplicate keys are errors that name the field, what was found and what is
allowed.  An API server keeps opaque parameters as they were sent, duplicates included: whoever parses them uses
`_lib.strictjson`, which marks such objects, and `decode` finds the mark.
"""

from hami_dra.api.names import CONFIG_KIND
from hami_dra.api.opaque.v1alpha1 import GpuConfig
from hami_dra.api.strict import ConfigError, decode_kind

__all__ = ["ConfigError", "decode"]


def decode(parameters: object) -> GpuConfig:
    """Decode parameters that are already parsed.

    Raises:
        ConfigError: not an object, unknown version or kind, unknown field, wrong value, duplicate key.
    """
    return decode_kind(GpuConfig, parameters, kind=CONFIG_KIND, what="parameters")
