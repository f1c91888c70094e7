"""ResourceClaims: read one, and say in its status how its devices are.

What a status says is for the services.  Each of them writes as a field manager of its own by server-side apply, so that
the node plugin's `Ready` and the controller's `Resolved` and `data` never undo one another (KEP-4817).
Invariant: `lastTransitionTime` of a condition moves when, and only when, its `status` changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import quote

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock, rfc3339
from hami_dra.core.errors import Invalid
from hami_dra.kube.transport import APPLY_PATCH, MERGE_PATCH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hami_dra.api.k8s import AllocatedDeviceStatus, JsonObject, ResourceClaim
    from hami_dra.kube.transport import Transport

__all__ = ["CLAIMS_PATH", "Claims", "with_transition_times"]

CLAIMS_PATH = "/apis/resource.k8s.io/v1/resourceclaims"
"""All claims, for a reflector."""

_GET_TIMEOUT_S = 5.0
"""Kubelet waits for a prepare: an API server that hangs must not keep a worker for long."""
_IMMUTABLE = "status.allocation"
"""What a refusal names when the API server tripped over its own rewriting of the allocation."""
_DeviceKey: TypeAlias = tuple[str, str, str, str]


class Claims:
    """Read claims and apply the status of their devices."""

    def __init__(self, transport: Transport, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._transport = transport
        self._clock = clock

    def get(self, *, namespace: str, name: str) -> ResourceClaim:
        """One claim.

        Raises:
            KubeError: `NotFound`, or the API server could not be asked.
        """
        response = self._transport.request("GET", _path(namespace, name), timeout_s=_GET_TIMEOUT_S)
        return cast("ResourceClaim", response.body)

    def apply_devices(
        self, claim: ResourceClaim, devices: Iterable[AllocatedDeviceStatus], *, field_manager: str
    ) -> ResourceClaim:
        """Make `devices` all that `field_manager` says in the claim's `status.devices`; returns the claim as stored.

        What it said before and does not say now goes away; what others say stays.

        Args:
            claim: as last read; its uid must still be that of the stored claim.
            devices: entries for devices that the claim has; conditions need no `lastTransitionTime`.
            field_manager: who says so.

        Raises:
            KubeError: `NotFound` if the claim is gone; `Invalid` if another one has its name now, or if it does not have
                one of the devices.
        """
        meta = claim["metadata"]
        stamped = with_transition_times(
            devices, claim.get("status", {}).get("devices") or [], now=rfc3339(self._clock.now())
        )
        body: JsonObject = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]},
            "status": {"devices": stamped},
        }
        try:
            response = self._transport.request(
                "PATCH",
                _path(meta["namespace"], meta["name"]) + "/status",
                query={"fieldManager": field_manager, "force": "true"},
                body=body,
                content_type=APPLY_PATCH,
            )
        except Invalid as error:
            if _IMMUTABLE not in str(error):
                raise
            return self._patch_devices(claim, stamped, field_manager=field_manager)
        return cast("ResourceClaim", response.body)

    def _patch_devices(
        self, claim: ResourceClaim, devices: list[AllocatedDeviceStatus], *, field_manager: str
    ) -> ResourceClaim:
        """Say the same by a merge patch: what others say stays, and so does what we said of other devices.

        On its way through an apply, 1.36.3 rewrites opaque parameters to canonical JSON (sorted keys, no white space) and then
        refuses its own change of `status.allocation`.  A merge patch leaves compact parameters as they are.
        """
        meta = claim["metadata"]
        stored = self.get(namespace=meta["namespace"], name=meta["name"])
        if stored["metadata"]["uid"] != meta["uid"]:
            raise Invalid(f"claim {meta['namespace']}/{meta['name']}: another claim has its name now")
        response = self._transport.request(
            "PATCH",
            _path(meta["namespace"], meta["name"]) + "/status",
            query={"fieldManager": field_manager},
            body={
                "metadata": {"resourceVersion": stored["metadata"]["resourceVersion"]},
                "status": {"devices": _merged(stored.get("status", {}).get("devices") or [], devices)},
            },
            content_type=MERGE_PATCH,
        )
        return cast("ResourceClaim", response.body)


def _merged(
    stored: Iterable[AllocatedDeviceStatus], ours: Iterable[AllocatedDeviceStatus]
) -> list[AllocatedDeviceStatus]:
    """The stored entries with ours laid over them: conditions by type, everything else by field."""
    entries = {_key(entry): entry for entry in stored}
    for entry in ours:
        below = entries.get(_key(entry), entry)
        conditions = {
            held["type"]: held for held in [*(below.get("conditions") or []), *(entry.get("conditions") or [])]
        }
        entries[_key(entry)] = {**below, **entry, "conditions": list(conditions.values())}
    return list(entries.values())


def with_transition_times(
    devices: Iterable[AllocatedDeviceStatus], stored: Iterable[AllocatedDeviceStatus], *, now: str
) -> list[AllocatedDeviceStatus]:
    """Copies of `devices` whose conditions carry the time of the last change: that of `stored` where nothing changed."""
    times = {
        (_key(device), condition["type"], condition["status"]): condition["lastTransitionTime"]
        for device in stored
        for condition in device.get("conditions") or []  # null where a device has none
        if "lastTransitionTime" in condition
    }
    stamped: list[AllocatedDeviceStatus] = []
    for device in devices:
        entry = device.copy()
        if conditions := device.get("conditions"):
            entry["conditions"] = [
                {
                    "lastTransitionTime": times.get((_key(device), condition["type"], condition["status"]), now),
                    **condition,
                }
                for condition in conditions
            ]
        stamped.append(entry)
    return stamped


def _key(device: AllocatedDeviceStatus) -> _DeviceKey:
    return device["driver"], device["pool"], device["device"], device.get("shareID", "")


def _path(namespace: str, name: str) -> str:
    return f"/apis/resource.k8s.io/v1/namespaces/{quote(namespace, safe='')}/resourceclaims/{quote(name, safe='')}"
