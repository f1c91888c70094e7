"""What can be combined with isolation TimeSlicing and MPS: in one share, with one card, on one card at a time.

Both divide a card's compute by means of the card, and leave its memory to the guard.  A card takes turns at one pace and runs
one control daemon, so all shares of a card are isolated alike; each partition of a card counts as a card of its own.
"""

from collections.abc import Sequence

from hami_dra.api.opaque import GpuConfig, Isolation, Qos
from hami_dra.core.allocation import Result
from hami_dra.core.errors import InvalidConfig
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu, Holder, card_of, parse_partition
from hami_dra.core.share import ShareSpec

__all__ = ["check_card", "check_combination", "check_requests", "unit_of"]

_LEAST_CAPABILITY = (7, 0)
"""Volta: MPS of older cards has neither memory protection between clients nor a part of the card for each (NVIDIA, MPS, 2.3)."""


def unit_of(device: DeviceName) -> DeviceName:
    """What is used in one way at a time: the partition that the device is, else its card."""
    return device if parse_partition(device) is not None else card_of(device)


def check_combination(where: str, merged: GpuConfig, *, isolation: Isolation, result: Result) -> None:
    """Refuse fields of a configuration that mean nothing together.

    Raises:
        InvalidConfig: says which, and what to drop.
    """
    if merged.timeSlicing is not None and isolation is not Isolation.TIME_SLICING:
        raise InvalidConfig(
            f"{where}: timeSlicing.interval needs isolation TimeSlicing, but isolation is {isolation};"
            " set isolation TimeSlicing or drop timeSlicing"
        )
    if isolation not in (Isolation.TIME_SLICING, Isolation.MPS):
        return
    if merged.priority is not None:
        raise InvalidConfig(
            f"{where}: priority {merged.priority} is the guard's, but isolation is {isolation}; drop one of the two"
        )
    if merged.qos is Qos.BURST_SHARE:
        raise InvalidConfig(
            f"{where}: qos BurstShare is lent and taken back by the guard, but isolation is {isolation}; drop one of the two"
        )
    if isolation is Isolation.TIME_SLICING:
        _check_time_slicing(where, merged, result)


def _check_time_slicing(where: str, merged: GpuConfig, result: Result) -> None:
    if parse_partition(result.device) is not None:
        raise InvalidConfig(
            f"{where}: device {result.device} is a partition, whose turns the driver does not let anybody set;"
            " use isolation Guard or MPS"
        )
    if result.cores_percent or merged.qos is Qos.FIXED_SHARE:
        raise InvalidConfig(
            f"{where}: isolation TimeSlicing gives every process the same turns, so that no cores can be promised, but"
            f" {f'the request has cores {result.cores_percent}' if result.cores_percent else 'qos is FixedShare'};"
            " drop that, or use isolation Guard or MPS"
        )
    if merged.limits is not None:
        raise InvalidConfig(
            f"{where}: limits make a fixed share smaller, but isolation TimeSlicing leaves no cores to it; drop limits, or use"
            " isolation Guard or MPS"
        )


def check_requests(where: str, specs: Sequence[ShareSpec]) -> None:
    """Refuse a request that gives a container several shares with MPS: a process can be the client of one daemon.

    Raises:
        InvalidConfig: names the request and its devices.
    """
    devices: dict[str, list[str]] = {}
    for spec in specs:
        if spec.isolation is Isolation.MPS:
            devices.setdefault(spec.base_request, []).append(spec.device)
    for request, found in devices.items():
        if len(found) > 1:
            raise InvalidConfig(
                f"{where}, request {request}: isolation MPS is for one device a container, because a process is the client of"
                f" one control daemon, but there are {', '.join(found)}; ask for one, or use isolation Guard"
            )


def check_card(where: str, spec: ShareSpec, gpu: Gpu) -> None:
    """Refuse what the share's card cannot do.

    Raises:
        InvalidConfig: says what the card is.
    """
    if spec.isolation not in (Isolation.TIME_SLICING, Isolation.MPS):
        return
    what = f"{where}, request {spec.request}: isolation {spec.isolation}"
    if gpu.holder is not Holder.GUARD:
        raise InvalidConfig(
            f"{what} is NVIDIA's, but {gpu.name} is {gpu.product_name} of vendor {gpu.vendor}; leave isolation out"
        )
    if spec.isolation is Isolation.MPS and (gpu.compute_capability or (0, 0)) < _LEAST_CAPABILITY:
        has = "unknown" if gpu.compute_capability is None else "{}.{}".format(*gpu.compute_capability)
        raise InvalidConfig(
            f"{what} needs compute capability 7.0 (Volta), but that of {gpu.name} ({gpu.product_name}) is {has};"
            " use isolation Guard"
        )
