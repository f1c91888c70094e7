"""What the guard's tests share: simulated nodes, share directories, containers, and clients that do what they are told.

A container is a process in a private mount namespace with the shares below /run/hami, as the node plugin mounts them.  Several
containers of one share are several namespaces over the same files, which is what containers that share a claim are.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from hami_dra._gen import abi
from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.ids import GpuUuid, ShareKey
from hami_dra.core.limits import Limits, encode

__all__ = ["Card", "Client", "Container", "Node", "Programs", "Share", "make_share", "wait_until"]

HERE = Path(__file__).parent
OUT_OF_MEMORY = 2
DEADLINE_S = 20.0


def wait_until(condition: Callable[[], bool], *, what: str) -> None:
    """Return once `condition` holds; fail when it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The built libraries and the clients compiled for these tests."""

    guard: Path
    simgpu: Path
    client: Path
    linked: Path
    hammer: Path
    graphs: Path
    worker: Path
    sharer: Path
    stub: Path
    """Directory of the stub driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The directory of one share, as the node plugin makes it."""

    directory: Path

    @property
    def usage(self) -> bytes:
        """The usage file's content."""
        return (self.directory / "usage").read_bytes()

    @property
    def used_bytes(self) -> int:
        """The shared counter."""
        return self._header(abi.USAGE_USED_BYTES_OFFSET)

    @property
    def peak_bytes(self) -> int:
        """The highest value that the shared counter had."""
        return self._header(abi.USAGE_PEAK_BYTES_OFFSET)

    @property
    def managed_bytes(self) -> int:
        """Managed memory beyond the share's part of the card."""
        return self._header(abi.USAGE_MANAGED_BYTES_OFFSET)

    @property
    def overhead_bytes(self) -> int:
        """The part of used_bytes that the driver took by itself, over all slots."""
        starts = range(abi.USAGE_HEADER_SIZE, abi.USAGE_SIZE, abi.USAGE_SLOT_SIZE)
        fields = (
            slice(start + abi.USAGE_SLOT_OVERHEAD_BYTES_OFFSET, start + abi.USAGE_SLOT_OVERHEAD_BYTES_OFFSET + 8)
            for start in starts
        )
        usage = self.usage
        return sum(int.from_bytes(usage[field], "little") for field in fields)

    @property
    def refused_total(self) -> int:
        """How many allocations were refused."""
        return self._header(abi.USAGE_REFUSED_TOTAL_OFFSET)

    @property
    def gpu_time_ns(self) -> int:
        """The GPU time charged, as the share itself says."""
        return self._header(abi.USAGE_GPU_TIME_NS_OFFSET)

    @property
    def throttled_ns(self) -> int:
        """For how long launches waited."""
        return self._header(abi.USAGE_THROTTLED_NS_OFFSET)

    def _header(self, offset: int) -> int:
        return int.from_bytes(self.usage[offset : offset + 8], "little")

    def set_limit(
        self, *, uuid: str, memory_bytes: int, generation: int, cores_percent: int = 0, granted_permille: int = 0
    ) -> None:
        """Change the limits in place, under the seqlock, as the node plugin does."""
        page = bytearray(
            _page(
                self.directory.name,
                uuid=uuid,
                memory_bytes=memory_bytes,
                generation=generation,
                cores_percent=cores_percent,
                granted_permille=granted_permille,
            )
        )
        with (self.directory / "limits").open("r+b", buffering=0) as file:
            sequence = int.from_bytes(os.pread(file.fileno(), 4, abi.LIMITS_SEQUENCE_OFFSET), "little")
            os.pwrite(file.fileno(), (sequence + 1).to_bytes(4, "little"), abi.LIMITS_SEQUENCE_OFFSET)
            page[abi.LIMITS_SEQUENCE_OFFSET : abi.LIMITS_SEQUENCE_OFFSET + 4] = (sequence + 1).to_bytes(4, "little")
            os.pwrite(file.fileno(), page, 0)
            os.pwrite(file.fileno(), (sequence + 2).to_bytes(4, "little"), abi.LIMITS_SEQUENCE_OFFSET)


def _page(
    name: str,
    *,
    uuid: str,
    memory_bytes: int,
    generation: int = 1,
    cores_percent: int = 0,
    granted_permille: int = 0,
    managed_bytes: int = 0,
    mps_percent: int = 0,
) -> bytes:
    return encode(
        Limits(
            share=ShareKey(name),
            device_uuid=GpuUuid(uuid),
            memory_limit_bytes=memory_bytes,
            device_memory_bytes=80 << 30,
            cores_percent=cores_percent,
            qos=Qos.FIXED_SHARE,
            priority=Priority.NORMAL,
            granted_permille=granted_permille,
            managed_limit_bytes=managed_bytes,
            mps_percent=mps_percent,
            generation=generation,
        )
    )


def make_share(
    root: Path,
    name: str,
    *,
    uuid: str,
    memory_bytes: int = 0,
    cores_percent: int = 0,
    managed_bytes: int = 0,
    mps_percent: int = 0,
    usage_size: int = abi.USAGE_FILE_SIZE,
) -> Share:
    """A share of the device `uuid`, with both its files."""
    directory = root / name
    directory.mkdir(parents=True)
    (directory / "limits").write_bytes(
        _page(
            name,
            uuid=uuid,
            memory_bytes=memory_bytes,
            cores_percent=cores_percent,
            managed_bytes=managed_bytes,
            mps_percent=mps_percent,
        )
    )
    usage = directory / "usage"
    usage.touch()
    os.truncate(usage, usage_size)
    usage.chmod(0o666)
    return Share(directory=directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One simulated GPU, as the independent observer sees it."""

    uuid: str
    used_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A driver root of the simulated GPU."""

    root: Path
    simctl: Path

    def cards(self) -> list[Card]:
        """What `simctl list` says now."""
        listing = subprocess.run(
            [self.simctl, "list", "--root", self.root, "--json"], capture_output=True, text=True, check=True
        )
        return [
            Card(uuid=card["uuid"], used_bytes=card["used_bytes"], peak_bytes=card["peak_bytes"])
            for card in json.loads(listing.stdout)["cards"]
        ]

    def gpu_time_ns(self, card: int = 0) -> dict[int, int]:
        """How long each process has kept a card busy, by pid, as the card itself knows."""
        listing = subprocess.run(
            [self.simctl, "list", "--root", self.root, "--json"], capture_output=True, text=True, check=True
        )
        return {it["pid"]: it["gpu_time_ns"] for it in json.loads(listing.stdout)["cards"][card]["processes"]}

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find this node's driver."""
        return {"SIMGPU_ROOT": str(self.root), "LD_LIBRARY_PATH": str(self.root / "usr" / "lib64")}


class Client:
    """A running client.c (or any program that speaks its protocol)."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, command: str) -> list[str]:
        """Send one command, return the words of its answer."""
        self.tell(command)
        return self.read(to=command)

    def read(self, *, to: str = "a command") -> list[str]:
        """The words of the next answer."""
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        assert answer, f"the client ended with {self.process.wait()} at {to!r}"
        return answer.split()

    def tell(self, command: str) -> None:
        """Send a command that has no answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def start(self, device: int = 0) -> Self:
        """Load the driver and make a context on the device."""
        assert self.ask("open") == ["1"]
        assert self.ask(f"init {device}") == ["0"]
        return self

    def allocate(self, bytes_: int, *, kind: str = "sync") -> int:
        """The CUresult of one allocation."""
        return int(self.ask(f"alloc {kind} {bytes_}")[0])

    def processes(self, index: int = 0) -> list[tuple[int, int]]:
        """The pids and their memory as NVML tells, which three versions of one call agree on."""
        result, *words = map(int, self.ask(f"processes {index}"))
        assert result == 0
        return list(zip(words[::2], words[1::2], strict=True))

    def view(self) -> tuple[int, int, int]:
        """Free and total by cuMemGetInfo, total by cuDeviceTotalMem."""
        result, free, total, of_device = map(int, self.ask("view"))
        assert result == 0
        return free, total, of_device

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def quit(self) -> None:
        """Let it end by itself."""
        self.tell("quit")
        assert self.process.wait(timeout=DEADLINE_S) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Where programs run: with these shares, this driver and the guard preloaded."""

    programs: Programs
    driver: Mapping[str, str]
    """Environment that leads to the driver's libraries."""
    shares: Sequence[Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    guarded: bool = True
    writable_limits: bool = False
    own_pids: bool = False
    """A pid namespace of its own, as a container of a pod has it."""

    def command(self, *words: str | Path) -> list[str]:
        """The command line that runs `words` inside."""
        preload = [f"LD_PRELOAD={self.programs.guard}"] if self.guarded else []
        settings = [f"{name}={value}" for name, value in {**self.driver, **self.environment}.items()]
        return [
            *("unshare", "--mount", "--propagation", "private"),
            *(["--pid", "--fork", "--kill-child", "--mount-proc"] if self.own_pids else []),
            *("sh", str(HERE / "enter.sh")),
            *(["--writable"] if self.writable_limits else []),
            *map(str, self.shares),
            *("--", "env", *settings, *preload, *map(str, words)),
        ]

    @contextmanager
    def client(self, route: str = "dlsym") -> Iterator[Client]:
        """A client that speaks until the block ends, or another program that does; then it is killed."""
        others = {"linked": self.programs.linked, "sharer": self.programs.sharer, "graphs": self.programs.graphs}
        program = others.get(route, self.programs.client)
        process = subprocess.Popen(
            self.command(program, route), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        with process:
            try:
                yield Client(process)
            finally:
                process.kill()

    def run(self, *words: str | Path) -> str:
        """Run a program to its end and return what it printed."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
