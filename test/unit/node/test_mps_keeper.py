"""The keeper starts what is asked for, starts again what ended, and stops what nobody wants."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hami_dra._lib.threads import Group
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.mps import Answer, Wanted
from hami_dra.host.mps_dir import MpsDirectory
from hami_dra.node.mps_keeper import MpsKeeper
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually

DEVICE = DeviceName("gpu-0000-17-00-0")
WANTED = Wanted(uuid=GpuUuid("GPU-1"), percent=30, memory_bytes=(1 << 30) + 1)
MORE = replace(WANTED, percent=50)


@dataclass(slots=True)
class Daemon:
    """A daemon that answers when it is told to."""

    uuid: GpuUuid
    answers: bool = True
    how: str | None = None
    servers: str = ""
    told: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def pid(self) -> int:
        """Some process."""
        return 4711

    def ended(self) -> str | None:
        """How it ended."""
        return self.how

    def ask(self, lines: list[str]) -> str | None:
        """Take note of settings."""
        self.told += [line for line in lines if line.startswith("set")]
        return self.servers if self.answers else None

    def stop(self) -> None:
        """End."""
        self.stopped, self.how = True, "ended with status 0"


@dataclass(slots=True)
class Rig:
    """A keeper, the node plugin's side of the directory, and the daemons that were started."""

    keeper: MpsKeeper
    node: MpsDirectory
    clock: FakeClock
    started: list[Daemon] = field(default_factory=list)
    refuses: str = ""
    silent: bool = False

    def start(self, device: GpuUuid, *, pipes: Path, logs: Path) -> Daemon:
        """Start one."""
        assert pipes.is_dir()
        assert logs.is_dir()
        if self.refuses:
            raise DriverError(self.refuses)
        self.started.append(Daemon(device, answers=not self.silent))
        return self.started[-1]

    def rounds(self, number: int = 2) -> None:
        """So many looks."""
        for _ in range(number):
            self.keeper.round()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A keeper with nothing to do."""
    clock, files = FakeClock(), MpsDirectory(tmp_path)
    made = Rig.__new__(Rig)
    keeper = MpsKeeper(files=files, starter=made, group=Group("keeper"), clock=clock)
    Rig.__init__(made, keeper=keeper, node=MpsDirectory(tmp_path), clock=clock)
    with files.keep():
        yield made


def test_a_daemon_serves_when_it_was_told_everything(rig: Rig) -> None:
    """Its defaults are set before anybody hears that it serves; a larger share has it told again, and its servers too."""
    rig.node.want(DEVICE, WANTED)
    rig.keeper.round()
    assert rig.node.answer(DEVICE) == Answer(serves=None, message="it is being started")
    rig.keeper.round()
    (daemon,) = rig.started
    assert daemon.told == ["set_default_active_thread_percentage 30", "set_default_device_pinned_mem_limit 0 1025M"]
    assert rig.node.answer(DEVICE) == Answer(serves=WANTED)
    daemon.told.clear()
    daemon.servers = "77\n"
    rig.node.want(DEVICE, MORE)
    rig.rounds()
    assert daemon.told[2:] == ["set_active_thread_percentage 77 50", "set_device_pinned_mem_limit 77 0 1025M"]
    assert rig.node.answer(DEVICE) == Answer(serves=MORE)
    assert rig.started == [daemon]


def test_what_nobody_wants_is_stopped_and_swept(rig: Rig) -> None:
    """Also where a device has become another one, as a partition that was made anew."""
    rig.node.want(DEVICE, WANTED)
    rig.rounds()
    rig.node.want(DEVICE, replace(WANTED, uuid=GpuUuid("MIG-2")))
    rig.rounds()
    assert [(daemon.uuid, daemon.stopped) for daemon in rig.started] == [("GPU-1", True), ("MIG-2", False)]
    rig.node.forget(DEVICE)
    rig.keeper.round()
    assert rig.started[1].stopped
    assert rig.node.left() == set()


def test_a_daemon_that_ended_comes_back_later_and_later(rig: Rig) -> None:
    """Each end is said and counted; the next start waits, the longer the more often it ended at once."""
    rig.node.want(DEVICE, WANTED)
    rig.rounds()
    rig.started[0].how = "nvidia-cuda-mps-control was killed by signal 9"
    rig.keeper.round()
    assert rig.node.answer(DEVICE) == Answer(serves=None, ends=1, message=rig.started[0].how)
    for ends in range(2, 5):
        rig.clock.advance(30.0)
        rig.keeper.round()
        rig.started[-1].how = "nvidia-cuda-mps-control ended with status 1"
        rig.keeper.round()
        answer = rig.node.answer(DEVICE)
        assert answer is not None
        assert answer.ends == ends
    rig.clock.advance(30.0)
    rig.rounds()
    assert rig.node.answer(DEVICE) == Answer(serves=WANTED, ends=4)
    rig.clock.advance(100.0)
    rig.started[-1].how = "killed"
    rig.keeper.round()
    rig.clock.advance(1.0)
    rig.rounds()
    assert rig.node.answer(DEVICE) == Answer(serves=WANTED, ends=5)


def test_a_daemon_that_cannot_be_started_says_why(rig: Rig) -> None:
    """The driver's words reach whoever waits, and it is tried again."""
    rig.refuses = "there is no program nvidia-cuda-mps-control"
    rig.node.want(DEVICE, WANTED)
    rig.keeper.round()
    assert rig.node.answer(DEVICE) == Answer(serves=None, ends=1, message=rig.refuses)
    rig.refuses = ""
    rig.clock.advance(30.0)
    rig.rounds()
    assert rig.node.answer(DEVICE) == Answer(serves=WANTED, ends=1)


def test_a_daemon_that_does_not_answer_is_stopped(rig: Rig) -> None:
    """Its start has a deadline."""
    rig.silent = True
    rig.node.want(DEVICE, WANTED)
    rig.rounds()
    rig.clock.advance(21.0)
    rig.rounds()
    answer = rig.node.answer(DEVICE)
    assert rig.started[0].stopped
    assert answer is not None
    assert (answer.serves, answer.ends) == (None, 1)


def test_the_end_of_the_keeper_is_the_end_of_its_daemons(tmp_path: Path) -> None:
    """None is left that nobody watches; while one keeper lives there is no other."""
    node, started = MpsDirectory(tmp_path), list[Daemon]()

    class Starter:
        def start(self, device: GpuUuid, *, pipes: Path, logs: Path) -> Daemon:
            del pipes, logs
            started.append(Daemon(device))
            return started[-1]

    node.want(DEVICE, WANTED)
    with Group("keeper") as group:
        keeper = MpsKeeper(files=MpsDirectory(tmp_path), starter=Starter(), group=group)
        group.spawn("keeper", keeper.run)
        eventually(lambda: node.answer(DEVICE) == Answer(serves=WANTED))
        with pytest.raises(NodeStateError):
            MpsKeeper(files=MpsDirectory(tmp_path), starter=Starter(), group=group).run()
    assert [daemon.stopped for daemon in started] == [True]
    assert node.answer(DEVICE) is None
