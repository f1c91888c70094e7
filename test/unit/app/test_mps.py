"""`hami-dra mps` with the simulated driver: what the node plugin asks for is there, comes back, and goes."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from unit.vendors.test_time_slices import cards, root

from hami_dra._lib.threads import Group
from hami_dra.app.mps import MpsOptions, start_mps
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.mps import Answer, Wanted
from hami_dra.host.mps_dir import MpsDirectory
from hami_dra.testing.eventually import eventually

__all__ = ["root"]

pytestmark = pytest.mark.native

DEVICE = DeviceName("gpu-0000-17-00-0")


@pytest.fixture
def state() -> Iterator[Path]:
    """A directory with a short path: that of a socket has room for 107 bytes."""
    with TemporaryDirectory(prefix="mps-") as directory:
        yield Path(directory)


def test_a_daemon_comes_comes_back_and_goes(root: Path, state: Path, tmp_path: Path) -> None:
    """Killed, it is started again and counted; forgotten, it is gone with its directory; the card follows."""
    shm = tmp_path / "shm"
    node = MpsDirectory(state / "mps")
    wanted = Wanted(uuid=GpuUuid(cards(root)[0]["uuid"]), percent=30, memory_bytes=1 << 30)
    node.want(DEVICE, wanted)
    with Group("mps") as group:
        start_mps(group, MpsOptions(state_dir=state, driver_root=root, shm=shm))
        assert stat.S_IMODE(shm.stat().st_mode) == 0o1777
        eventually(lambda: node.answer(DEVICE) == Answer(serves=wanted))
        assert cards(root)[0]["mps"]
        pid = int((state / "mps" / DEVICE / "pipe" / "nvidia-cuda-mps-control.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: node.answer(DEVICE) == Answer(serves=wanted, ends=1))
        node.forget(DEVICE)
        eventually(lambda: not (state / "mps" / DEVICE).exists())
        assert not cards(root)[0]["mps"]
