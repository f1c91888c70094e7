"""The driver's figures about processes, as NVML's samples come."""

import threading
from dataclasses import dataclass

import pynvml
import pytest
from unit.vendors.test_discover import FakeNvml, card, discovery, root

from hami_dra.core.errors import DriverError
from hami_dra.core.figures import Figures
from hami_dra.core.ids import GpuUuid
from hami_dra.vendors.nvidia import Root
from hami_dra.vendors.nvidia.library import Nvml, _figures

__all__ = ["root"]

UUID = GpuUuid("GPU-0")


@dataclass
class Sample:
    """As pynvml hands it out."""

    pid: int
    timeStamp: int  # noqa: N815 - pynvml's spelling
    smUtil: int  # noqa: N815 - as above


@pytest.mark.parametrize(
    ("samples", "figures"),
    [
        ([], None),
        ([Sample(7, 500_000, 40)], Figures(at_us=500_000, periods=1, busy={7: 0.4})),
        ([Sample(7, 500_000, 40), Sample(8, 490_000, 20)], Figures(at_us=500_000, periods=1, busy={7: 0.4, 8: 0.2})),
        (
            [Sample(7, 500_000, 40), Sample(7, 333_333, 20), Sample(8, 500_000, 20)],
            Figures(at_us=500_000, periods=2, busy={7: 0.3, 8: 0.1}),
        ),
        ([Sample(7, 100, 4000), Sample(8, 0, 20)], None),
        ([Sample(7, 100, 0)], Figures(at_us=100, periods=1, busy={7: 0.0})),
    ],
    ids=["none", "one", "two processes", "two periods", "nonsense", "asleep"],
)
def test_samples_are_averaged_over_their_periods(samples: list[Sample], figures: Figures | None) -> None:
    """A process that has a sample in one of two periods slept in the other; what cannot be is no figure."""
    found = _figures(samples)
    assert (found is None) is (figures is None)
    if found is not None and figures is not None:
        assert (found.at_us, found.periods) == (figures.at_us, figures.periods)
        assert found.busy == pytest.approx(figures.busy)


class MeteredNvml(Nvml):
    """NVML as far as figures need it."""

    def __init__(self) -> None:
        """There is nothing to open."""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (pynvml.NVML_ERROR_NOT_FOUND, None),
        (pynvml.NVML_ERROR_NOT_SUPPORTED, None),
        (pynvml.NVML_ERROR_INSUFFICIENT_SIZE, None),
        (pynvml.NVML_ERROR_GPU_IS_LOST, "cannot read the processes of GPU-0: GPU is lost"),
    ],
)
def test_no_news_is_no_error(code: int, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML says NOT_FOUND where nothing was sampled since; a card that is lost is an error."""

    def fail(_handle: object, _since: int) -> list[Sample]:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda _uuid: object())
    monkeypatch.setattr(pynvml, "nvmlDeviceGetProcessUtilization", fail)
    if message is None:
        assert MeteredNvml().figures(UUID, since_us=0) is None
    else:
        with pytest.raises(DriverError, match=message):
            MeteredNvml().figures(UUID, since_us=0)


class CountingNvml(FakeNvml):
    """Says whether figures were asked of an open session."""

    def figures(self, uuid: str, *, since_us: int) -> Figures | None:
        """Some."""
        assert self.closed == 0
        return Figures(at_us=since_us + 1, periods=1, busy={len(uuid): 1.0})


def test_figures_come_from_the_open_session(root: Root) -> None:
    """None before the first look and after the end; never from a session that another thread has ended."""
    nvml = CountingNvml([card()])
    look = discovery(root, nvml)
    assert look.figures(UUID, since_us=1) is None
    look.discover()
    assert look.figures(UUID, since_us=1) == Figures(at_us=2, periods=1, busy={5: 1.0})
    closer = threading.Thread(target=look.close)
    closer.start()
    while look.figures(UUID, since_us=1) is not None:
        pass
    closer.join()
    assert nvml.closed == 1


@dataclass
class Holder:
    """A process as pynvml hands it out."""

    pid: int
    usedGpuMemory: int | None  # noqa: N815 - pynvml's spelling


@pytest.mark.parametrize(
    ("processes", "held"),
    [
        ([], {}),
        ([Holder(7, 100), Holder(8, 50)], {7: 100, 8: 50}),
        ([Holder(7, 100), Holder(7, 50)], {7: 150}),
        ([Holder(7, 100), Holder(8, None)], None),
    ],
    ids=["none", "two", "on two parts of the card", "not told"],
)
def test_memory_is_summed_by_process(
    processes: list[Holder], held: dict[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the driver does not tell it of one process, it tells it of none."""
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda _uuid: object())
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda _handle: processes)
    assert MeteredNvml().memory(UUID) == held


def test_a_driver_that_lists_no_processes_tells_nothing(monkeypatch: pytest.MonkeyPatch, root: Root) -> None:
    """Nor does one with which no session is open."""

    def fail(_handle: object) -> list[Holder]:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda _uuid: object())
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", fail)
    assert MeteredNvml().memory(UUID) is None
    assert discovery(root, CountingNvml([card()])).memory(UUID) is None
