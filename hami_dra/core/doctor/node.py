"""What was seen on a node, and what to say of it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hami_dra.api.quantity import format_bytes
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.doctor.isolation import IsolationView, judge_isolation
from hami_dra.core.doctor.view import Unknown
from hami_dra.core.ids import ClaimUid
from hami_dra.core.inventory import Gpu, Holder, Inventory
from hami_dra.core.record import Entry, Phase

__all__ = ["CdiView", "GuardView", "KernelView", "NodeView", "SocketView", "judge_node"]

_LEAST_BYTES = 64 << 20
"""Room that the ledger's log and some share files want."""
_LEAST_FILES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketView:
    """How kubelet finds the node plugin."""

    listening: Mapping[str, bool]
    """By the path of each socket, whether somebody answers there."""
    ready: bool | Unknown
    """Whether the node plugin says that it is registered and has published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CdiView:
    """The directory that the container runtime reads."""

    path: str
    obstacle: str
    """Why nothing can be written there; empty where it can."""
    changed_s: float | None
    """How long ago something came or went there."""
    uids: Collection[ClaimUid]
    """Claims that have a spec there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """The guard's builds on this node."""

    path: str
    build: str | Unknown
    """Which the node plugin would install."""
    builds: Collection[str]
    """Those that are complete."""
    executable: bool
    """Whether libraries can be mapped from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelView:
    """What of the kernel and its limits matters."""

    release: str
    regions: Collection[str]
    """Device memory that the dmem controller can cap."""
    open_files: int | None
    """How many the node plugin may have open."""
    free: Mapping[str, tuple[int, int]]
    """Bytes and files that still fit, by directory."""
    sees_processes: bool
    """Whether the processes of other pods can be seen."""
    attribution: bool
    """Whether the node plugin is told to look at them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """Everything that was looked at."""

    driver_root: str
    inventory: Inventory | Unknown
    left_out: Sequence[str]
    """What the look said of cards that cannot be used."""
    sockets: SocketView
    cdi: CdiView
    ledger: Sequence[Entry] | Unknown
    ledger_after: Sequence[Entry] | Unknown
    """The same, read once more after the files: the node plugin works meanwhile."""
    shares: Collection[ClaimUid]
    """Claims that have share files."""
    boot: str
    guard: GuardView
    isolation: IsolationView
    kernel: KernelView


def judge_node(view: NodeView) -> list[Finding]:
    """In the order of the report."""
    return [
        *_driver(view),
        *_cards(view),
        *_sockets(view.sockets),
        *_cdi(view.cdi),
        *_ledger(view),
        *_guard(view.guard),
        *_isolation(view),
        *_kernel(view),
    ]


def _driver(view: NodeView) -> list[Finding]:
    check, inventory = "driver", view.inventory
    advice = f"is the driver installed and loaded, and is {view.driver_root} its root (values driverRoot, deviceRoot)?"
    if isinstance(inventory, Unknown):
        return [problem(check, inventory.why, advice)]
    failed = [problem(check, f"{vendor}: {why}", advice) for vendor, why in sorted(inventory.failures.items())]
    answering = []
    for vendor, files in sorted(inventory.drivers.items()):
        cards = [gpu for gpu in inventory.gpus if gpu.vendor == vendor]
        versions = {f"driver {gpu.driver_version}" for gpu in cards if gpu.driver_version}
        cuda = {"CUDA " + ".".join(map(str, gpu.cuda_driver_version)) for gpu in cards if gpu.cuda_driver_version}
        said = [vendor, *sorted(versions), *sorted(cuda), f"{len(files.libraries)} libraries below {view.driver_root}"]
        answering.append(ok(check, ", ".join(said)))
    return [*failed, *answering] or [ok(check, "no card of a vendor that is known is in this machine")]


def _cards(view: NodeView) -> list[Finding]:
    check, inventory = "cards", view.inventory
    left_out = [warning(check, said, "docs/vendors.md says what a card needs to be shared") for said in view.left_out]
    gpus = () if isinstance(inventory, Unknown) else inventory.gpus
    found = [
        ok(check, f"{gpu.name}: {gpu.product_name}, {format_bytes(gpu.memory_bytes)}, {_uses(gpu)}") for gpu in gpus
    ]
    return [*found, *left_out] or [warning(check, "there is no card", "a node without a card publishes an empty slice")]


def _uses(gpu: Gpu) -> str:
    held = {Holder.GUARD: "shares held by the guard", Holder.KERNEL: "shares of memory held by the kernel"}
    said = [held[gpu.holder] if gpu.holder is not None else "given whole: nothing could hold a share"]
    if gpu.mig is not None:
        mode = "on" if gpu.mig.enabled else "off"
        switch = "can be switched while the node runs" if gpu.mig.switchable else "takes a reset to switch"
        said.append(f"partitioning {mode} ({switch}), {len(gpu.instances)} partitions")
    return ", ".join(said)


def _sockets(view: SocketView) -> list[Finding]:
    check = "sockets"
    dead = [path for path, alive in view.listening.items() if not alive]
    if dead:
        advice = "see the node plugin's log; were kubelet's directories wiped or remounted under it?"
        return [problem(check, f"nobody answers on {' and '.join(dead)}", advice)]
    if isinstance(view.ready, Unknown):
        return [warning(check, f"the node plugin does not say whether it is ready: {view.ready.why}", "see its log")]
    if not view.ready:
        advice = "see kubelet's log and the node plugin's: is --kubelet-root kubelet's own, is the API server there?"
        return [problem(check, "the node plugin listens, but is not registered or has not published", advice)]
    return [ok(check, "registered with kubelet, published, and answering")]


def _cdi(view: CdiView) -> list[Finding]:
    if view.obstacle:
        advice = "no claim can be prepared: mount it writable, or make room"
        return [problem("cdi", f"{view.path}: {view.obstacle}", advice)]
    age = "" if view.changed_s is None else f", last changed {view.changed_s:.0f} s ago"
    return [ok("cdi", f"{view.path} can be written, {len(view.uids)} specs of ours{age}")]


def _ledger(view: NodeView) -> list[Finding]:
    check, before, after = "ledger", view.ledger, view.ledger_after
    if isinstance(before, Unknown) or isinstance(after, Unknown):
        why = next(each.why for each in (before, after) if isinstance(each, Unknown))
        advice = "restart the node plugin: it moves a damaged ledger aside and makes it anew from the share files"
        return [problem(check, why, advice)]
    known = {entry.plan.uid for entry in (*before, *after) if entry.boot == view.boot}
    prepared = _prepared(before, view.boot) & _prepared(after, view.boot)
    specs, shares = set(view.cdi.uids), set(view.shares)
    again = "kubelet's next prepare makes it again, and so does a restart of the node plugin"
    sweep = "the node plugin's next start removes them"
    old = sum(entry.boot != view.boot for entry in after)
    said = f"sound: {len(prepared)} claims prepared, {len(known - prepared)} on their way, {old} of an earlier boot"
    return [
        ok(check, said),
        *_lacking(prepared - specs, "prepared, but without a CDI spec", again),
        *_lacking(prepared - shares, "prepared, but without share files", again),
        *_lacking(specs - known, "CDI specs of claims that are not prepared", sweep),
        *_lacking(shares - known, "share files of claims that are not prepared", sweep),
    ]


def _prepared(entries: Sequence[Entry], boot: str) -> set[ClaimUid]:
    return {entry.plan.uid for entry in entries if entry.boot == boot and entry.phase is Phase.COMPLETED}


def _lacking(uids: Collection[ClaimUid], what: str, advice: str) -> list[Finding]:
    return [warning("ledger", f"{what}: {', '.join(sorted(uids))}", advice)] if uids else []


def _guard(view: GuardView) -> list[Finding]:
    check = "guard"
    if isinstance(view.build, Unknown):
        return [problem(check, view.build.why, "the image lacks its library: is it built from deploy/container?")]
    if view.build not in view.builds:
        found = f"build {view.build} is not installed in {view.path}"
        return [problem(check, found, "restart the node plugin: was its state directory wiped?")]
    if not view.executable:
        advice = "mount it without noexec, or choose another stateDir: no container could load the guard"
        return [problem(check, f"{view.path} lies on a file system that is mounted noexec", advice)]
    older = len(view.builds) - 1
    return [ok(check, f"build {view.build} is installed{f', beside {older} of other releases' if older else ''}")]


def _isolation(view: NodeView) -> list[Finding]:
    entries = [] if isinstance(view.ledger_after, Unknown) else view.ledger_after
    nvidia = not isinstance(view.inventory, Unknown) and "nvidia" in view.inventory.drivers
    here = [entry for entry in entries if entry.boot == view.boot]
    return judge_isolation(view.isolation, here, nvidia=nvidia, driver_root=view.driver_root)


def _kernel(view: NodeView) -> list[Finding]:
    check, kernel = "kernel", view.kernel
    findings = []
    for path, (free_bytes, free_files) in sorted(kernel.free.items()):
        if free_bytes < _LEAST_BYTES or free_files < _LEAST_FILES:
            found = f"{path} has room for {format_bytes(free_bytes)} and {free_files} files"
            findings.append(warning(check, found, "free some: a full disk keeps claims from being prepared"))
    if kernel.attribution and not kernel.sees_processes:
        found = "the processes of other pods cannot be seen: shares are not told apart in the driver's figures"
        findings.append(warning(check, found, "set node.attribution (hostPID), and mount /proc without hidepid"))
    if not isinstance(view.inventory, Unknown):
        unheld = [gpu.name for gpu in view.inventory.gpus if gpu.holder is None and gpu.vendor == "amd"]
        if unheld:
            found = f"no dmem controller for {', '.join(unheld)}: given whole"
            findings.append(warning(check, found, "shares of AMD's memory take Linux 6.14 with cgroup v2 and dmem"))
    regions = f"dmem for {', '.join(sorted(kernel.regions))}" if kernel.regions else "no dmem"
    files = "unknown" if kernel.open_files is None else str(kernel.open_files)
    return [*findings, ok(check, f"Linux {kernel.release}, {files} open files for the node plugin, {regions}")]
