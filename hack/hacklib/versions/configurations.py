"""The configurations of Kubernetes that the e2e suite runs on: a version, as it comes or with the gates of DRA open."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hacklib.binaries.recipe import KUBERNETES_VERSIONS, MinorVersion
from hacklib.ui import HackError

__all__ = ["CONFIGURATIONS", "MATRIX", "NEWEST", "Configuration", "configuration"]

_GATES = (
    "DRAConsumableCapacity",
    "DRADeviceBindingConditions",
    "DRADeviceTaints",
    "DRAExtendedResource",
    "DRAPartitionableDevices",
    "ResourceHealthStatus",
)
"""What 1.36 has open and older releases have not."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One Kubernetes to run the suite on."""

    name: str
    kubernetes: MinorVersion
    feature_gates: Mapping[str, bool] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """The version with its patch."""
        return KUBERNETES_VERSIONS[self.kubernetes]


def _opened(version: str, *more: str) -> Configuration:
    gates = dict.fromkeys((*_GATES, *more), True)
    return Configuration(name=f"{version}+gates", kubernetes=MinorVersion(version), feature_gates=gates)


CONFIGURATIONS: Mapping[str, Configuration] = {
    found.name: found
    for found in (
        Configuration(name="1.34", kubernetes=MinorVersion("1.34")),
        _opened("1.34"),
        Configuration(name="1.35", kubernetes=MinorVersion("1.35")),
        _opened("1.35", "DRADeviceTaintRules"),
        Configuration(name="1.36", kubernetes=MinorVersion("1.36")),
    )
}
"""By name, older ones first."""
MATRIX = ("1.34", "1.35", "1.35+gates", "1.36")
"""On which the whole suite runs; on the others, what `make test` has chosen."""
NEWEST = "1.36"
"""What tests run on that say nothing else."""


def configuration(name: str) -> Configuration:
    """The configuration of that name.  Raises HackError if there is none."""
    if name not in CONFIGURATIONS:
        raise HackError(f"configuration {name!r} is unknown; there are {', '.join(CONFIGURATIONS)}")
    return CONFIGURATIONS[name]
