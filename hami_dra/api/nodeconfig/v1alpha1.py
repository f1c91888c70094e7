"""`gpu.hami.io/v1alpha1`, kind `NodeConfig`: how the cards of which nodes are offered and watched.

A list of entries, each for some nodes and some of their cards; where several speak of one card, the last one that sets a field
wins.  Invariant: frozen, closed, every setting optional, so that "not said" differs from every value.
"""

import re
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from hami_dra.api.names import CONFIG_API_VERSION, NODE_CONFIG_KIND
from hami_dra.api.strict import Bytes

__all__ = [
    "CardMode",
    "Defaults",
    "DeviceSelector",
    "Entry",
    "LabelSelector",
    "NodeConfig",
    "Operator",
    "Requirement",
    "Scaling",
    "Watchdog",
    "WatchdogPolicy",
]

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_MAX_PREFIX: Final = 253


class CardMode(StrEnum):
    """How a card is cut."""

    SHARES = "Shares"
    """One device that many claims share, each with the memory and cores that it asked for (DRAConsumableCapacity)."""
    PARTITIONS = "Partitions"
    """Every partition (MIG) that fits, made when it is claimed, and the whole card (DRAPartitionableDevices)."""
    FIXED_SHARES = "FixedShares"
    """Equal parts, each a device of its own; needs no feature gate."""
    WHOLE = "Whole"
    """One device that one claim takes whole."""


class WatchdogPolicy(StrEnum):
    """What becomes of a share that the driver sees above its limits."""

    REPORT = "Report"
    """It is reported: metric, log, Event."""
    THROTTLE = "Throttle"
    """It is reported, and computes little until it keeps to its limits again."""
    STOP = "Stop"
    """It is reported, and its processes on the card are killed."""


class Operator(StrEnum):
    """How a requirement looks at a label; as in Kubernetes' LabelSelector."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


def _label_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and (not _PREFIX.fullmatch(prefix) or len(prefix) > _MAX_PREFIX)):
        raise ValueError(
            "expected a label's key such as gpu.hami.io/pool: an optional DNS prefix, and up to 63 characters"
        )
    return key


def _label_value(value: str) -> str:
    if value and not _NAME.fullmatch(value):
        raise ValueError("expected a label's value: up to 63 letters, digits, '-', '_' and '.'")
    return value


LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Text = Annotated[str, Field(min_length=1)]
Percent = Annotated[int, Field(ge=1, le=1000)]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel)


class Requirement(_Closed):
    """One condition on one label."""

    key: LabelKey = Field(description="The label's key.")
    operator: Operator = Field(
        strict=False, description="How the label is looked at. NotIn also holds where it is not there."
    )
    values: tuple[LabelValue, ...] = Field(
        default=(), strict=False, description="For In and NotIn: at least one. Else none."
    )

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        needs_values = self.operator in {Operator.IN, Operator.NOT_IN}
        if needs_values and not self.values:
            raise ValueError(f"operator {self.operator} needs values")
        if self.values and not needs_values:
            raise ValueError(f"operator {self.operator} takes no values")
        return self


class LabelSelector(_Closed):
    """Kubernetes' LabelSelector, on the labels of a Node; all that is said must hold."""

    match_labels: dict[LabelKey, LabelValue] = Field(
        default={}, description="Labels that the node has, with these values."
    )
    match_expressions: tuple[Requirement, ...] = Field(
        default=(), strict=False, description="Conditions that the node's labels meet."
    )


class DeviceSelector(_Closed):
    """Some cards of a node; a list holds where one of its items does, and all lists that are there must hold."""

    names: tuple[Text, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="Device names as ResourceSlices show them, such as gpu-0000-17-00-0; stable over reboots.",
    )
    uuids: tuple[Text, ...] | None = Field(
        default=None, strict=False, min_length=1, description="UUIDs as the vendor's driver gives them."
    )
    indices: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="Positions as the vendor's driver counts. Not stable: a card that fails or is added shifts the others.",
    )
    product_names: tuple[Text, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description='Patterns of the product\'s name, with * and ?, such as "NVIDIA A100*"; case counts.',
    )

    @model_validator(mode="after")
    def _selects(self) -> Self:
        if (self.names, self.uuids, self.indices, self.product_names) == (None, None, None, None):
            raise ValueError("expected one of names, uuids, indices, productNames; leave devices out for all cards")
        return self


class Scaling(_Closed):
    """How much of a card is offered, of what it has."""

    memory_percent: Percent | None = Field(
        default=None,
        description="Memory that is offered, in percent of the card's. Above 100 shares together may be promised more than there "
        "is; below 100 the rest is kept back. Default: 100.",
    )
    cores_percent: Percent | None = Field(
        default=None, description="Cores that are offered, in percent of the card's, likewise. Default: 100."
    )


class Defaults(_Closed):
    """What a request gets that names no capacity."""

    memory: Bytes | None = Field(
        default=None,
        description="Memory, as a quantity such as 8Gi, rounded up to 1Mi; a card with less gives all of it. Default: all.",
        gt=0,
    )
    cores_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, description="Cores, in percent of one card. Default: 0, that is as much as nobody else uses."
    )


class Watchdog(_Closed):
    """What is done about shares that the driver sees above their limits, whatever the guard believes."""

    policy: WatchdogPolicy | None = Field(default=None, strict=False, description="What is done. Default: Report.")
    memory_tolerance: Bytes | None = Field(
        default=None, description="How far above its memory a share may be before it counts as above. Default: 64Mi."
    )
    cores_tolerance_percent: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="How far above its cores, in percent of the card, averaged over the grace. Default: 20.",
    )
    grace_seconds: Annotated[int, Field(ge=1, le=3600)] | None = Field(
        default=None, description="How long a share is above before anything is done. Default: 10."
    )


class Entry(_Closed):
    """Settings for some cards of some nodes."""

    name: Text | None = Field(default=None, description="For people: shown in the node plugin's log.")
    node_selector: LabelSelector | None = Field(
        default=None, description="Nodes that the entry is for, by their labels. Default: all."
    )
    devices: DeviceSelector | None = Field(
        default=None, description="Cards of these nodes that the entry is for. Default: all."
    )
    exclude: bool | None = Field(
        default=None, description="Whether the cards are left out: not offered to anybody. Default: false."
    )
    mode: CardMode | None = Field(default=None, strict=False, description="How the card is cut. Default: Shares.")
    slots: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="How many tenants may share one card with mode Shares. Default: the chart's slots."
    )
    fixed_shares: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="How many devices mode FixedShares makes of one card. Default: 4."
    )
    scaling: Scaling | None = Field(default=None, description="How much of a card is offered, of what it has.")
    defaults: Defaults | None = Field(default=None, description="What a request gets that names no capacity.")
    watchdog: Watchdog | None = Field(
        default=None, description="What is done about shares that the driver sees above their limits."
    )


class NodeConfig(_Closed):
    """How the cards of a cluster's nodes are offered and watched."""

    api_version: Literal["gpu.hami.io/v1alpha1"] = Field(description=f"Always {CONFIG_API_VERSION}.")
    kind: Literal["NodeConfig"] = Field(description=f"Always {NODE_CONFIG_KIND}.")
    entries: tuple[Entry, ...] = Field(
        default=(), strict=False, description="From the general to the particular: the last one that sets a field wins."
    )
