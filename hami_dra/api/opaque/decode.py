"""Strict decoding of opaque parameters.

Unknown fields, unknown versions, wrong types and duplicate keys are errors that name the field, what was found and what is
allowed.  An API server keeps opaque parameters as they were sent, duplicates included: whoever parses them uses
`_lib.strictjson`, which marks such objects, and `decode` finds the mark.
"""

import json
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from hami_dra._lib import strictjson
from hami_dra.api.names import CONFIG_API_VERSION, CONFIG_KIND
from hami_dra.api.opaque.v1alpha1 import GpuConfig, Memory

__all__ = ["ConfigError", "decode"]

_MAX_SHOWN: Final = 60


class ConfigError(ValueError):
    """The parameters are not a valid GpuConfig; the message says what and where."""


def decode(parameters: object) -> GpuConfig:
    """Decode parameters that are already parsed.

    Raises:
        ConfigError: not an object, unknown version or kind, unknown field, wrong value, duplicate key.
    """
    if (key := strictjson.find_duplicate(parameters)) is not None:
        raise ConfigError(f"{key}: the key appears twice; keep one")
    if not isinstance(parameters, dict):
        raise ConfigError(f"parameters: found {_shown(parameters)}, expected an object of kind {CONFIG_KIND}")
    if parameters.get("apiVersion") != CONFIG_API_VERSION:
        raise ConfigError(f"apiVersion: found {_shown(parameters.get('apiVersion'))}, expected {CONFIG_API_VERSION}")
    if parameters.get("kind") != CONFIG_KIND:
        raise ConfigError(f"kind: found {_shown(parameters.get('kind'))}, expected {CONFIG_KIND}")
    try:
        return GpuConfig.model_validate(parameters)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(detail) for detail in error.errors())) from error


def _sentence(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        model: type[BaseModel] = GpuConfig if len(detail["loc"]) == 1 else Memory
        return f"{where}: unknown field; {CONFIG_API_VERSION} has {', '.join(model.model_fields)}"
    if detail["type"] == "model_type":
        return f"{where}: found {_shown(detail['input'])}; expected an object"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: found {_shown(detail['input'])}; {message[0].lower()}{message[1:]}"


def _shown(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
