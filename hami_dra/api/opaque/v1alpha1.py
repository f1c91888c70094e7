"""`gpu.hami.io/v1alpha1`, kind `GpuConfig`: how a share is isolated, not how much of a device it is.

How much is what the scheduler charged (`consumedCapacity`).  Invariant: frozen, closed, every field optional.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hami_dra.api.names import CONFIG_API_VERSION, CONFIG_KIND
from hami_dra.api.strict import Bytes

__all__ = ["GpuConfig", "Interval", "Isolation", "Limits", "Memory", "Priority", "Qos", "TimeSlicing"]


class Isolation(StrEnum):
    """What holds a share to its limits."""

    GUARD = "Guard"
    """The guard library in each process of the share."""
    TIME_SLICING = "TimeSlicing"
    """The guard for memory; compute is left to the turns that the driver lets processes take on the card."""
    MPS = "MPS"
    """The guard for memory; compute runs at once on a part of the card, through a control daemon of NVIDIA's MPS."""
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


class Interval(StrEnum):
    """How long a process's turn on a time-sliced card lasts: the driver's words, in rising order."""

    DEFAULT = "Default"
    """What the driver holds to be right."""
    SHORT = "Short"
    MEDIUM = "Medium"
    LONG = "Long"


class TimeSlicing(BaseModel):
    """How processes take turns on a time-sliced card."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    interval: Interval | None = Field(
        default=None,
        strict=False,
        description="How long a turn lasts; all shares of a card must agree on it. Default: Default, the driver's own.",
    )


class Memory(BaseModel):
    """How a share's memory behaves."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    oversubscription: Bytes | None = Field(
        default=None,
        description="How much may be allocated beyond the share's memory, as a quantity such as 8Gi. What exceeds the share "
        "becomes managed memory, which the driver pages to host memory. Needs isolation Guard. Default: 0.",
    )


class Limits(BaseModel):
    """Less of a fixed share than there is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    memory: Bytes | None = Field(
        default=None, description="Device memory, as a quantity such as 8Gi. Default: all of the fixed share."
    )
    cores: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="Percent of one GPU; 0: none promised. Default: all of the fixed share."
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
    deviceMetadata: bool | None = Field(  # noqa: N815 - Kubernetes spelling
        default=None,
        description="Whether containers find a file with the attributes of device and share (KEP-5304). Default: false.",
    )
    timeSlicing: TimeSlicing | None = Field(  # noqa: N815 - Kubernetes spelling
        default=None, description="How processes take turns; only with isolation TimeSlicing."
    )
    limits: Limits | None = Field(
        default=None,
        description="Less than a fixed share has; only for fixed shares, whose size no request can choose.",
    )
