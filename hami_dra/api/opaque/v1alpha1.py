"""`gpu.hami.io/v1alpha1`, kind `GpuConfig`: how a share is isolated, not how much of a device it is.

How much is what the scheduler charged (`consumedCapacity`).  Invariant: frozen, closed, every field optional.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from hami_dra.api.names import CONFIG_API_VERSION, CONFIG_KIND
from hami_dra.api.quantity import parse_quantity

__all__ = ["GpuConfig", "Isolation", "Memory", "Priority", "Qos"]

_MOST_BYTES: Final = 2**63 - 1
"""A Kubernetes quantity ends there."""


class Isolation(StrEnum):
    """What holds a share to its limits."""

    GUARD = "Guard"
    """The guard library in each process of the share."""
    NONE = "None"
    """Nothing: only for whole cards."""


class Qos(StrEnum):
    """What a share's `cores` mean."""

    FIXED_SHARE = "FixedShare"
    """Never above its cores."""
    BURST_SHARE = "BurstShare"
    """Its cores guaranteed, idle time usable."""
    BEST_EFFORT = "BestEffort"
    """No cores promised."""


class Priority(StrEnum):
    """Who goes first among the shares of one card."""

    HIGH = "High"
    NORMAL = "Normal"
    LOW = "Low"


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


class Memory(BaseModel):
    """How a share's memory behaves."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    oversubscription: Bytes | None = Field(
        default=None,
        description="How much may be allocated beyond the share's memory, as a quantity such as 8Gi. What exceeds the share "
        "becomes managed memory, which the driver pages to host memory. Needs isolation Guard. Default: 0.",
    )


class GpuConfig(BaseModel):
    """Opaque parameters of a request for a GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    apiVersion: Literal["gpu.hami.io/v1alpha1"] = Field(description=f"Always {CONFIG_API_VERSION}.")  # noqa: N815 - Kubernetes spelling
    kind: Literal["GpuConfig"] = Field(description=f"Always {CONFIG_KIND}.")
    isolation: Isolation | None = Field(
        default=None,
        strict=False,
        description="What holds the share to its limits. Default: Guard for shares, None for whole cards.",
    )
    qos: Qos | None = Field(
        default=None,
        strict=False,
        description="What the share's cores mean. Default: FixedShare when cores are asked for, else BestEffort.",
    )
    priority: Priority | None = Field(
        default=None, strict=False, description="Who goes first among the shares of one card. Default: Normal."
    )
    memory: Memory | None = Field(default=None, description="How the share's memory behaves.")
