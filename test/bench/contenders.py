"""How a program runs unhooked, under the guard, and under a peer's library: same driver, same limits, same kind of container.

The peer is whatever HAMi-core's `libvgpu.so` was built to; its limits travel by the environment variables of its README.
Invariant: contenders of one `Arena` differ in what is preloaded and in nothing else that a driver or a program sees.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Self

from native.guard.conftest import compile_c
from native.guard.harness import HERE, Node, make_share

from hacklib.native import build
from hacklib.ui import HackError, Ui
from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.ids import GpuUuid, ShareKey
from hami_dra.core.limits import Limits, encode

__all__ = ["Arena", "Contender"]

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to run programs; everything that runs under one contender shares one limit."""

    name: str
    environment: Mapping[str, str]
    preload: Mapping[str, str] = field(default_factory=dict)
    shares: Sequence[Path] = ()

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs `words` in a private mount namespace, which has the shares mounted."""
        settings = [f"{name}={value}" for name, value in {**self.environment, **self.preload}.items()]
        enter = ("unshare", "--mount", "--propagation", "private", "sh", str(HERE / "enter.sh"))
        return [*enter, *map(str, self.shares), "--", "env", *settings, *map(str, words)]


@dataclass(frozen=True, kw_only=True)
class Arena:
    """One card of a simulated node, and the contenders that run on it."""

    node: Node
    directory: Path
    guard_library: Path
    peer_library: Path | None
    numbers: "count[int]" = field(default_factory=count)

    @classmethod
    @contextmanager
    def open(cls, *, peer: Path | None, ui: Ui) -> Iterator[Self]:
        """Build what is needed and make a card that nobody used before; it is gone after the block.

        Raises HackError when the peer's library is not there.
        """
        if peer and not peer.is_file():
            raise HackError(f"no such library: {peer}; --peer takes the path of HAMi-core's libvgpu.so")
        if os.geteuid():
            raise HackError("this needs root for mount namespaces; run it as root")
        output = build(preset="release", ui=ui)
        with tempfile.TemporaryDirectory(prefix="hami-dra-bench-") as name:
            yield cls(
                node=_node(Path(name) / "node", simctl=output / "simgpu" / "simctl"),
                directory=Path(name),
                guard_library=output / "libhami_guard.so",
                peer_library=peer.resolve() if peer else None,
            )

    def with_new_card(self) -> Self:
        """The same with a card that nobody used before."""
        return replace(self, node=_node(self.directory / f"node-{next(self.numbers)}", simctl=self.node.simctl))

    def compile(self, source: Path) -> Path:
        """A program of the benchmarks, optimised as products are."""
        return compile_c(self.directory / source.stem, "-O2", source, "-ldl", "-lpthread")

    def contenders(self, *, memory_bytes: int, cores_percent: int = 0) -> list[Contender]:
        """All that there are, unhooked first, each with limits (and books) of its own; 0 percent: no compute limit."""
        return [
            Contender(name="unhooked", environment=self.node.environment),
            *self.limited(memory_bytes=memory_bytes, cores_percent=cores_percent),
        ]

    def limited(self, *, memory_bytes: int, cores_percent: int = 0) -> list[Contender]:
        """Those that limit what they run."""
        found = [self._guard(memory_bytes=memory_bytes, cores_percent=cores_percent)]
        if self.peer_library:
            found.append(self._peer(self.peer_library, memory_bytes=memory_bytes, cores_percent=cores_percent))
        return found

    def _guard(self, *, memory_bytes: int, cores_percent: int) -> Contender:
        name, uuid = f"share-{next(self.numbers)}", self.node.cards()[0].uuid
        share = make_share(self.directory, name, uuid=uuid, memory_bytes=memory_bytes)
        limits = Limits(
            share=ShareKey(name),
            device_uuid=GpuUuid(uuid),
            memory_limit_bytes=memory_bytes,
            device_memory_bytes=80 * GIB,
            cores_percent=cores_percent,
            qos=Qos.FIXED_SHARE if cores_percent else Qos.BEST_EFFORT,
            priority=Priority.NORMAL,
        )
        (share.directory / "limits").write_bytes(encode(limits))
        return Contender(
            name="guard",
            environment=self.node.environment,
            preload={"LD_PRELOAD": str(self.guard_library)},
            shares=[share.directory],
        )

    def _peer(self, library: Path, *, memory_bytes: int, cores_percent: int) -> Contender:
        preload = {
            "LD_PRELOAD": str(library),
            "CUDA_REDIRECT": str(library),
            "LIBCUDA_LOG_LEVEL": "0",
            "CUDA_DEVICE_MEMORY_LIMIT": f"{memory_bytes >> 20}m",
            "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(self.directory / f"peer-{next(self.numbers)}.cache"),
        }
        if cores_percent:
            preload |= {"CUDA_DEVICE_SM_LIMIT": str(cores_percent), "GPU_CORE_UTILIZATION_POLICY": "force"}
        return Contender(name="HAMi-core", environment=self.node.environment, preload=preload)


def _node(root: Path, *, simctl: Path) -> Node:
    create: list[str | Path] = [simctl, "create", "--root", root, "--model", "A100", "--count", "1"]
    subprocess.run(create, check=True, capture_output=True)
    return Node(root=root, simctl=simctl)
