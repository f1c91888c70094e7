"""A node to test with: the real state machine and the real adapters on a temporary directory, and a switch to pull.

`crash_at` makes the process "die" before or after one effect: a BaseException that nothing of the product catches.  `start` is
a new process on the same files, `reboot` a new boot of the machine.  `facts` are what a test compares.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.cdi import NodePaths
from hami_dra.core.devices import Offers
from hami_dra.core.errors import ApiUnavailable, NotFound
from hami_dra.core.ids import ClaimUid
from hami_dra.core.inventory import Inventory
from hami_dra.host.cdi_dir import CdiDirectory
from hami_dra.host.ledger import Ledger
from hami_dra.host.locks import ClaimLocks
from hami_dra.host.share_dir import ShareDirectory
from hami_dra.node.cutting import OwnedInstances
from hami_dra.node.discovery import Discovery
from hami_dra.node.ports import NodeFiles, Partitioner
from hami_dra.node.recovery import Recovery
from hami_dra.node.state import ClaimRef, NodeState, Prepared, PublishedPool
from hami_dra.testing.gpus import POOL, inventory
from hami_dra.testing.modes import FakeMps, FakeTimeSlices
from hami_dra.testing.partitions import CuttableCards
from hami_dra.testing.pods import FakePods

__all__ = ["EFFECTS", "ClaimStore", "Crash", "Facts", "Rig", "ref"]

EFFECTS = ("ledger.begin", "shares.ensure", "cdi.write", "ledger.complete")
"""The effects of a prepare, in order."""


class Crash(BaseException):
    """The process died here."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What lies on the node."""

    shares: set[str]
    """`<claim>/<share>` directories."""
    cdi: set[str]
    ledger: dict[str, str]
    """Phase of each claim."""


class ClaimStore:
    """The API server as far as the state machine knows it."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], ResourceClaim] = {}
        self.down = False
        self.reads = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def add(self, claim: ResourceClaim) -> ClaimRef:
        """Put a claim there, in place of one of the same name."""
        self.claims[claim["metadata"]["namespace"], claim["metadata"]["name"]] = claim
        return ref(claim)

    def get(self, *, namespace: str, name: str) -> ResourceClaim:
        """One claim."""
        with self._lock:
            self.reads += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.down:
                raise ApiUnavailable("GET claim: 503")
            return self.claims[namespace, name]
        except KeyError:
            raise NotFound(f"{namespace}/{name} not found") from None
        finally:
            with self._lock:
                self._now -= 1


def ref(claim: ResourceClaim) -> ClaimRef:
    """The claim as kubelet names it."""
    metadata = claim["metadata"]
    return ClaimRef(namespace=metadata["namespace"], name=metadata["name"], uid=ClaimUid(metadata["uid"]))


class _Crashing:
    """An adapter whose effects can kill the process."""

    def __init__(self, rig: "Rig", name: str, adapter: object) -> None:
        self._rig, self._name, self._adapter = rig, name, adapter

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._adapter, name)
        return self._rig.wrap(f"{self._name}.{name}", attribute) if callable(attribute) else attribute


@dataclass(slots=True)
class Rig:
    """One node; see the module."""

    directory: Path
    boot: str = "boot-1"
    hardware: Inventory = field(default_factory=inventory)
    offers: Offers = field(default_factory=Offers)
    cards: CuttableCards = field(init=False)
    partitioner: Partitioner | None = None
    """What cuts the cards in place of `cards`."""
    claims: ClaimStore = field(default_factory=ClaimStore)
    group: Group = field(default_factory=lambda: Group("rig"))
    pods: FakePods = field(default_factory=FakePods)
    time_slices: FakeTimeSlices = field(default_factory=FakeTimeSlices)
    mps: FakeMps = field(default_factory=FakeMps)
    state: NodeState = field(init=False)
    discovery: Discovery = field(init=False)
    recovery: Recovery = field(init=False)
    ledger: Ledger = field(init=False)
    files: NodeFiles = field(init=False)
    unusable: dict[str, str] = field(default_factory=dict)
    """Devices on which nothing can run, and why."""
    resets: int = 0
    """How often cards were seen to have forgotten what they were told."""
    in_use: set[ClaimUid] = field(default_factory=set)
    """Claims whose files living processes have."""
    on_effect: Callable[[str], None] | None = None
    """Told of each effect before it happens, as in `cdi.write`, and after it, as in `cdi.write done`."""
    _armed: str = ""

    def __post_init__(self) -> None:
        self.cards = CuttableCards(hardware=lambda: self.hardware, step=self._pass)
        self.start()

    def start(self) -> None:
        """A new process on the same files."""
        self._armed = ""
        self._make()
        self.recovery.recover()
        self.discovery.look()

    def reboot(self) -> None:
        """The machine boots: the CDI directory is a tmpfs and MIG instances are gone, everything else stays."""
        self.ledger.close()
        self.cards.instances.clear()
        for path in self.cdi_dir.iterdir():
            path.unlink()
        self.boot += "x"
        self.start()

    def close(self) -> None:
        """Let go of the files."""
        self.ledger.close()
        self.group.stop()

    def crash_at(self, effect: str) -> None:
        """Die at an effect: `cdi.write` before it, `cdi.write done` after it."""
        self._armed = effect

    def prepare(self, reference: ClaimRef) -> Prepared:
        """Prepare a claim."""
        return self.state.prepare(reference)

    def unprepare(self, reference: ClaimRef) -> None:
        """Unprepare a claim."""
        self.state.unprepare(reference.uid)

    @property
    def cdi_dir(self) -> Path:
        """Where CDI files are."""
        return self.directory / "cdi"

    @property
    def claims_dir(self) -> Path:
        """Where share files are."""
        return self.directory / "state" / "claims"

    def cdi_file(self, uid: str) -> Path:
        """The CDI file of a claim."""
        return self.cdi_dir / f"gpu.hami.io-claim_{uid}.json"

    def facts(self) -> Facts:
        """What lies on the node now, without anybody's opinion of it."""
        return Facts(
            shares={str(path.relative_to(self.claims_dir)) for path in self.claims_dir.glob("*/*") if path.is_dir()},
            cdi={path.name.removeprefix("gpu.hami.io-claim_").removesuffix(".json") for path in self.cdi_dir.iterdir()},
            ledger={entry.plan.uid: str(entry.phase) for entry in self.ledger.entries()},
        )

    def wrap(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        """`function` as an effect of that name."""

        def effect(*args: object, **kwargs: object) -> object:
            self._pass(name)
            result = function(*args, **kwargs)
            self._pass(f"{name} done")
            return result

        return effect

    def _pass(self, name: str) -> None:
        if self.on_effect is not None:
            self.on_effect(name)
        if self._armed == name:
            raise Crash(name)

    def _look(self) -> Inventory:
        gpus = (replace(gpu, instances=self.cards.listed(gpu.name)) for gpu in self.hardware.gpus)
        return replace(self.hardware, gpus=tuple(gpus))

    def _make(self) -> None:
        state_dir = self.directory / "state"
        self.ledger = Ledger(state_dir / "ledger.db", boot=self.boot)
        shares = ShareDirectory(self.claims_dir)
        shares.check()
        cdi = CdiDirectory(self.cdi_dir)
        cdi.check()
        self.files = files = NodeFiles(
            ledger=cast("Ledger", _Crashing(self, "ledger", self.ledger)),
            shares=cast("ShareDirectory", _Crashing(self, "shares", shares)),
            cdi=cast("CdiDirectory", _Crashing(self, "cdi", cdi)),
            pods=cast("FakePods", _Crashing(self, "pods", self.pods)),
            partitions=cast("CuttableCards", _Crashing(self, "partitions", self.partitioner or self.cards)),
            time_slices=cast("FakeTimeSlices", _Crashing(self, "time_slices", self.time_slices)),
            mps=cast("FakeMps", _Crashing(self, "mps", self.mps)),
            locks=ClaimLocks(state_dir / "locks", group=self.group, timeout_s=5.0),
            boot=self.boot,
            in_use=lambda: self.in_use,
        )
        self.discovery = Discovery(discover=OwnedInstances(self._look, files), group=self.group)
        paths = NodePaths(
            claims_dir="/var/lib/hami-dra/claims",
            guard_dir="/var/lib/hami-dra/guard/0123456789ab",
            mps_dir="/var/lib/hami-dra/mps",
            mps_shm_dir="/dev/shm/hami-dra",
        )
        self.state = NodeState(
            claims=self.claims,
            discovery=self.discovery,
            files=files,
            paths=paths,
            pool=PublishedPool(
                name=POOL,
                offers=lambda: self.offers,
                unusable=lambda device, _tolerated: self.unusable.get(device, ""),
                resets=lambda _device: self.resets,
            ),
        )
        self.recovery = Recovery(state=self.state, discovery=self.discovery, files=files)
        self.discovery.listen(self.recovery.restore)
