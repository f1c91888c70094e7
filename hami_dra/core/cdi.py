"""What a share changes in a container, in two halves.

The share's half (`share_data`) is the same wherever it is computed: paths in the container, their options, limits.  The
controller publishes it in `ResourceClaim.status.devices[].data`.  The node's half adds what only the node knows: host paths,
device nodes, the driver's libraries, the guard's build.  `claim_spec` joins both into one CDI spec for the claim.
Mounts, device nodes and environment only; no OCI hooks.  Source: CDI specification 0.5.0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hami_dra.api.k8s import JsonObject
from hami_dra.api.names import (
    CDI_KIND,
    CDI_VERSION,
    CONTAINER_GUARD,
    CONTAINER_LIBRARY_DIRS,
    CONTAINER_PRELOAD,
    CONTAINER_SHARES_DIR,
)
from hami_dra.api.opaque import Isolation
from hami_dra.api.quantity import format_bytes
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import DeviceFile, DriverFiles, Inventory, LivePartition
from hami_dra.core.metadata import brings_metadata, container_path, file_name
from hami_dra.core.modes import unit_of
from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.core.share import ShareSpec

__all__ = ["NodePaths", "claim_spec", "share_data", "share_mounts"]

_SHM = "/dev/shm"  # noqa: S108 - of the container
_PIPES = "mps"
_READ_ONLY = ("ro", "nosuid", "nodev", "bind")
_READ_WRITE = ("rw", "nosuid", "nodev", "noexec", "bind")
_READ_ONLY_DATA = ("ro", "nosuid", "nodev", "noexec", "bind")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePaths:
    """Where this node keeps what it mounts, as the container runtime (on the host) sees it."""

    claims_dir: str
    guard_dir: str
    """Directory of the guard's current build; never reused for another build."""
    mps_dir: str
    """Where the daemons of MPS have their directories."""
    mps_shm_dir: str
    """What those daemons have for /dev/shm."""

    def share_file(self, *, uid: str, spec: ShareSpec, container_path: str) -> str:
        """Host path of what a share has at `container_path`."""
        if container_path == _SHM:
            return self.mps_shm_dir
        name = container_path.rsplit("/", 1)[1]
        if name == _PIPES:
            return f"{self.mps_dir}/{unit_of(spec.device)}/pipe"
        return f"{self.claims_dir}/{uid}/{spec.key}/{name}"

    def claim_file(self, *, uid: str, name: str) -> str:
        """Host path of a file of the claim."""
        return f"{self.claims_dir}/{uid}/{name}"


def share_mounts(spec: ShareSpec) -> list[JsonObject]:
    """The share's files as the container sees them, without their host paths."""
    if spec.isolation is Isolation.NONE:
        return []
    directory = f"{CONTAINER_SHARES_DIR}/{spec.key}"
    mounts: list[JsonObject] = [
        {"containerPath": f"{directory}/limits", "options": list(_READ_ONLY_DATA)},
        {"containerPath": f"{directory}/usage", "options": list(_READ_WRITE)},
    ]
    if spec.isolation is Isolation.MPS:
        # Client and server of MPS share memory by its name in /dev/shm.
        mounts += [{"containerPath": path, "options": list(_READ_WRITE)} for path in (f"{directory}/{_PIPES}", _SHM)]
    return mounts


def _share_environment(spec: ShareSpec) -> list[str]:
    """Where programs without the guard's help find the daemon; limits are not here, because tenants change what is."""
    if spec.isolation is not Isolation.MPS:
        return []
    return [f"CUDA_MPS_PIPE_DIRECTORY={CONTAINER_SHARES_DIR}/{spec.key}/{_PIPES}"]


def share_data(uid: str, spec: ShareSpec) -> JsonObject:
    """What a share means, for people and for comparison: the controller's half, published in the claim's status."""
    limits: JsonObject = {
        "cores": spec.cores_percent,
        "isolation": str(spec.isolation),
        "qos": str(spec.qos),
        "priority": str(spec.priority),
    }
    if spec.limit_cores_percent is not None:
        limits["cores"] = spec.limit_cores_percent
    memory = spec.limit_memory_bytes if spec.memory_bytes is None else spec.memory_bytes
    if memory is not None:
        limits |= {"memory": format_bytes(memory)}
    if spec.interval is not None:
        limits |= {"interval": str(spec.interval)}
    if spec.oversubscription_bytes:
        limits |= {"oversubscription": format_bytes(spec.oversubscription_bytes)}
    return {
        "request": spec.request,
        "cdiDevice": f"{CDI_KIND}={uid}-{spec.key}",
        "containerEdits": {"mounts": share_mounts(spec)} | ({"env": env} if (env := _share_environment(spec)) else {}),
        "limits": limits,
    }


def claim_spec(
    plan: ClaimPlan, inventory: Inventory, paths: NodePaths, *, live: Mapping[DeviceName, LivePartition]
) -> JsonObject:
    """The CDI spec of a claim: one device a share, and once for all of them their drivers' files and the guard.

    Args:
        plan: what the claim means here.
        inventory: what the node has.
        paths: where the node keeps its files.
        live: the partitions of the claim, by device.
    """
    guarded = any(share.guarded for share in plan.shares)
    vendors = {gpu.vendor for share in plan.shares if (gpu := inventory.card(share.spec.device)) is not None}
    drivers = [files for vendor, files in inventory.drivers.items() if vendor in vendors]
    return {
        "cdiVersion": CDI_VERSION,
        "kind": CDI_KIND,
        "devices": [
            {
                "name": plan.cdi_device(share),
                "containerEdits": _device_edits(plan, share, _files(share, inventory, live), paths),
            }
            for share in plan.shares
        ],
        "containerEdits": _common_edits(drivers, _guard_mounts(paths) if guarded else []),
    }


def _files(
    share: PlannedShare, inventory: Inventory, live: Mapping[DeviceName, LivePartition]
) -> tuple[DeviceFile, ...]:
    """Device files of a share: those of its card, and those of its partition."""
    gpu = inventory.card(share.spec.device)
    partition = live.get(share.spec.device)
    if partition is not None and partition.alone:
        return partition.device_files
    return (gpu.device_files if gpu else ()) + (partition.device_files if partition else ())


def _device_edits(plan: ClaimPlan, share: PlannedShare, files: tuple[DeviceFile, ...], paths: NodePaths) -> JsonObject:
    mounts = [
        {"hostPath": paths.share_file(uid=plan.uid, spec=share.spec, container_path=mount["containerPath"])} | mount
        for mount in share_mounts(share.spec)
    ]
    return _edits(files, mounts + _metadata_mounts(plan, share, paths), _share_environment(share.spec))


def _metadata_mounts(plan: ClaimPlan, share: PlannedShare, paths: NodePaths) -> list[JsonObject]:
    """One for each request that asks: a container gets all devices of the requests that it refers to."""
    if not brings_metadata(plan, share):
        return []
    request = share.spec.base_request
    host_path = paths.claim_file(uid=plan.uid, name=file_name(request))
    return [{"hostPath": host_path, "containerPath": container_path(plan, request), "options": list(_READ_ONLY_DATA)}]


def _common_edits(drivers: Iterable[DriverFiles], guard_mounts: list[JsonObject]) -> JsonObject:
    files = list(drivers)
    libraries = [
        {"hostPath": library.host_path, "containerPath": f"{directory}/{name}", "options": list(_READ_ONLY)}
        for driver in files
        for library in driver.libraries
        for name in library.names
        for directory in CONTAINER_LIBRARY_DIRS
    ]
    return _edits(
        tuple(file for driver in files for file in driver.device_files),
        libraries + guard_mounts,
        [f"{name}={value}" for driver in files for name, value in driver.environment],
    )


def _guard_mounts(paths: NodePaths) -> list[JsonObject]:
    return [
        {"hostPath": f"{paths.guard_dir}/{name}", "containerPath": target, "options": list(_READ_ONLY)}
        for name, target in (("libhami_guard.so", CONTAINER_GUARD), ("ld.so.preload", CONTAINER_PRELOAD))
    ]


def _edits(files: tuple[DeviceFile, ...], mounts: list[JsonObject], env: list[str]) -> JsonObject:
    nodes = [{"path": file.container_path} | _node(file) for file in files if file.character]
    posing = [
        {"hostPath": file.host_path, "containerPath": file.container_path, "options": list(_READ_WRITE)}
        for file in files
        if not file.character
    ]
    edits: JsonObject = {"env": env, "deviceNodes": nodes, "mounts": posing + mounts}
    return {name: value for name, value in edits.items() if value}


def _node(file: DeviceFile) -> JsonObject:
    """Where the runtime takes a device node from: its numbers, or the host's file."""
    if file.number is not None:
        return {"type": "c", "major": file.number[0], "minor": file.number[1]}
    return {"hostPath": file.host_path} if file.host_path != file.container_path else {}
