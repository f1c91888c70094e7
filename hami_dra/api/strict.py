"""Strict decoding of what users write: closed models, duplicate keys are errors, messages that name the field.

Shared by all kinds of configuration (`api.opaque`, `api.nodeconfig`).  A parser that keeps duplicates (`_lib.strictjson`,
`nodeconfig.text`) marks such objects, and `decode_kind` finds the mark.  A message is the path to the field, what was found, and
what is allowed.
"""

import json
from typing import Annotated, Any, Final, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema

from hami_dra._lib import strictjson
from hami_dra.api.names import CONFIG_API_VERSION
from hami_dra.api.quantity import parse_quantity

__all__ = ["Bytes", "ConfigError", "decode_kind", "shown"]

_MAX_SHOWN: Final = 60
_MOST_BYTES: Final = 2**63 - 1
"""A Kubernetes quantity ends there."""

_Model = TypeVar("_Model", bound=BaseModel)


class ConfigError(ValueError):
    """What was written is not a valid configuration of its kind; the message says what and where."""


def _read_bytes(value: object) -> object:
    """A quantity is a string or, as in Kubernetes, a bare number."""
    if isinstance(value, str):
        return parse_quantity(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("expected a quantity such as 8Gi")  # noqa: TRY004 - pydantic reports ValueErrors of a validator
    return value


Bytes = Annotated[
    int,
    BeforeValidator(_read_bytes),
    Field(ge=0, le=_MOST_BYTES),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}),
]


def decode_kind(model: type[_Model], value: object, *, kind: str, what: str) -> _Model:
    """Turn parsed JSON into the model of its kind; `what` is what the whole is called where it is no object at all.

    Raises:
        ConfigError: not an object, unknown version or kind, unknown field, wrong value, duplicate key.
    """
    if (key := strictjson.find_duplicate(value)) is not None:
        raise ConfigError(f"{key}: the key appears twice; keep one")
    if not isinstance(value, dict):
        raise ConfigError(f"{what}: found {shown(value)}, expected an object of kind {kind}")
    for field, expected in (("apiVersion", CONFIG_API_VERSION), ("kind", kind)):
        if value.get(field) != expected:
            raise ConfigError(f"{field}: found {shown(value.get(field))}, expected {expected}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(model, detail) for detail in error.errors())) from error


def shown(value: object) -> str:
    """A value as messages show it: as JSON, cut where it is long."""
    text = "nothing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _sentence(model: type[BaseModel], detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        fields = _model_at(model, detail["loc"][:-1]).model_fields
        names = ", ".join(field.alias or name for name, field in fields.items())
        return f"{where}: unknown field; {CONFIG_API_VERSION} has {names}"
    if detail["type"] == "model_type":
        return f"{where}: found {shown(detail['input'])}; expected an object"
    message = detail["msg"].removeprefix("Value error, ")
    message = (message[0].lower() + message[1:]).replace("tuple", "list")  # which is what users write
    return f"{where}: found {shown(detail['input'])}; {message}"


def _model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel]:
    """The model that lies at a path; positions in lists do not count."""
    for part in path:
        if isinstance(part, str):
            field = next(field for name, field in model.model_fields.items() if part == (field.alias or name))
            model = _inner_model(field.annotation)
    return model


def _inner_model(annotation: Any) -> type[BaseModel]:
    """The one model in `Model`, `Model | None` or `tuple[Model, ...]`."""
    while not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        annotation = get_args(annotation)[0]
    return annotation
