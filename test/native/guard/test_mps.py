"""Shares with isolation MPS: a process becomes a client of the card's daemon with the share's part of it, or gets nothing."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, make_share, wait_until

from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.mps import Answer, Wanted
from hami_dra.host.mps_dir import MpsDirectory
from hami_dra.vendors.nvidia import MpsPrograms, Root

pytestmark = pytest.mark.native

MIB = 1 << 20
CONNECTION_FAILED = 805
DEVICE = DeviceName("gpu-0000-17-00-0")
ASK = """
import ctypes

cuda, libc = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print(cuda.cuInit(0))
for name in ("PIPE_DIRECTORY", "ACTIVE_THREAD_PERCENTAGE", "PINNED_DEVICE_MEM_LIMIT"):
    print((libc.getenv(b"CUDA_MPS_" + name.encode()) or b"").decode())
"""
TENANT = {
    "CUDA_MPS_PIPE_DIRECTORY": "/nowhere",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "100",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=80G",
}
"""What a tenant would like to have."""


class Mps:
    """A container with a share of 100 MiB and 30 percent of a card, and whoever keeps that card's daemon."""

    def __init__(self, tmp_path: Path, programs: Programs, node: Node, stack: ExitStack) -> None:
        self.files = MpsDirectory(tmp_path / "mps")
        stack.enter_context(self.files.keep())
        self.uuid = GpuUuid(node.cards()[0].uuid)
        self.wanted = Wanted(uuid=self.uuid, percent=30, memory_bytes=100 * MIB)
        self.files.want(DEVICE, self.wanted)
        self.pipes, self.logs = self.files.folders(DEVICE)
        share = make_share(tmp_path / "claim", "share", uuid=self.uuid, memory_bytes=100 * MIB, mps_percent=30)
        (share.directory / "mps").symlink_to(self.pipes)
        self.container = Container(
            programs=programs, driver=node.environment, shares=[share.directory], environment=TENANT
        )
        self._root = Root(path=node.root)
        self._stack = stack

    def serve(self) -> None:
        """Start the daemon, and say that it serves."""
        daemon = MpsPrograms(self._root).start(self.uuid, pipes=self.pipes, logs=self.logs)
        self._stack.callback(daemon.stop)
        wait_until(lambda: daemon.ask(["get_server_list"]) is not None, what="an answer of the daemon")
        self.files.say(DEVICE, Answer(serves=self.wanted))


@pytest.fixture
def mps(tmp_path: Path, programs: Programs, node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mps]:
    """A card without a daemon."""
    monkeypatch.setenv("SIMGPU_ROOT", str(node.root))
    with ExitStack() as stack:
        yield Mps(tmp_path, programs, node, stack)


def test_without_a_daemon_nobody_computes(mps: Mps) -> None:
    """The driver alone would let the process have all of the card beside the others; when the daemon comes, it may try again."""
    with mps.container.client() as client:
        assert client.ask("open") == ["1"]
        assert client.ask("init 0") == [str(CONNECTION_FAILED)]
        mps.serve()
        assert client.ask("init 0") == ["0"]
        mps.files.say(DEVICE, Answer(serves=None))
    with mps.container.client() as late:
        assert late.ask("open") == ["1"]
        assert late.ask("init 0") == [str(CONNECTION_FAILED)]


def test_what_a_tenant_wishes_does_not_count(mps: Mps) -> None:
    """The daemon's place, the part of the multiprocessors and the memory limit are those of the limits file."""
    mps.serve()
    words = mps.container.run(sys.executable, "-c", ASK).split()
    assert words == ["0", "/run/hami/share/mps", "30", "0=100M"]


def test_memory_is_held_by_the_guard_in_any_case(mps: Mps) -> None:
    """Two clients of one share have its memory together, which the daemon's limit for each would not hold."""
    mps.serve()
    with mps.container.client() as one, mps.container.client() as two:
        assert one.start().allocate(60 * MIB) == 0
        assert two.start().allocate(60 * MIB) == OUT_OF_MEMORY
        assert two.allocate(40 * MIB) == 0


def test_a_card_without_mps_is_left_alone(tmp_path: Path, programs: Programs, node: Node) -> None:
    """A guarded share of another kind changes nothing in the environment."""
    share = make_share(tmp_path / "claim", "share", uuid=node.cards()[0].uuid, memory_bytes=100 * MIB)
    container = Container(programs=programs, driver=node.environment, shares=[share.directory], environment=TENANT)
    assert container.run(sys.executable, "-c", ASK).split() == ["0", *TENANT.values()]
