"""Who uses a card, as NVML tells it: lists of processes, and accounting that remembers the dead."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
from native.simgpu.node import MIB, Node, wait_until

from native.simgpu.nvml import Nvml, nvml_session

NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND
NO_INSTANCE = 0xFFFFFFFF
COMPUTE, GRAPHICS, ALL = 0, 1, 3
ENABLED, DISABLED = 1, 0
LEAST_LIFE_S = 0.002


@pytest.fixture
def nvml(node: Node) -> Iterator[Nvml]:
    """A session on the node with two A100 cards."""
    with nvml_session(node) as session:
        yield session


def test_every_list_tells_the_same(node: Node, nvml: Nvml) -> None:
    """All versions and the detailed list name each process with its bytes; nobody draws, and nobody serves MPS clients."""
    card = nvml.card()
    with node.holding(3 * MIB) as first, node.holding(5 * MIB) as second:
        wanted = {first.pid: 3 * MIB, second.pid: 5 * MIB}
        for name in ("", "_v2", "_v3"):
            rows = nvml.call(f"DeviceGetComputeRunningProcesses{name}", card)
            assert {row["pid"]: row["usedGpuMemory"] for row in rows} == wanted
            assert {row["gpuInstanceId"] for row in rows} == {NO_INSTANCE}
        for mode, expected in ((COMPUTE, wanted), (GRAPHICS, {}), (ALL, wanted)):
            rows = nvml.call("DeviceGetRunningProcessDetailList", card, pynvml.nvmlProcessDetailList_v1, mode)
            assert {row["pid"]: row["usedGpuMemory"] for row in rows} == expected
        assert nvml.call("DeviceGetGraphicsRunningProcesses", card) == []
        assert nvml.call("DeviceGetMPSComputeRunningProcesses", card) == []
        assert nvml.call("DeviceGetComputeRunningProcesses", nvml.card(1)) == []


def test_processes_have_the_pids_and_names_of_who_asks(node: Node, nvml: Nvml) -> None:
    """A process in a pid namespace of its own is listed by its pid out here, and has its program's name."""
    with node.holding(MIB, prefix=["unshare", "--pid", "--fork", "--kill-child"]) as outer:
        (row,) = nvml.call("DeviceGetComputeRunningProcesses", nvml.card())
        assert row["pid"] == int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        assert nvml.call("SystemGetProcessName", row["pid"]) == str(node.build / "exercise")
    assert nvml.error("SystemGetProcessName", 1 << 22) == NOT_FOUND


def test_accounting_remembers_the_dead(node: Node, nvml: Nvml) -> None:
    """While it is on, a process is told of with the most it ever held: running at first, then with the time it lived."""
    card = nvml.card()
    assert nvml.call("DeviceGetAccountingMode", card) == DISABLED
    assert nvml.error("DeviceGetAccountingPids", card) == pynvml.NVML_ERROR_NOT_SUPPORTED
    nvml.call("DeviceSetAccountingMode", card, ENABLED)
    with node.holding(7 * MIB) as holder:
        assert nvml.call("DeviceGetAccountingPids", card) == [holder.pid]
        born = time.monotonic()
        running = nvml.call("DeviceGetAccountingStats", card, holder.pid)
        assert (running["isRunning"], running["maxMemoryUsage"], running["time"]) == (1, 7 * MIB, 0)
        wait_until(lambda: time.monotonic() - born > LEAST_LIFE_S, what="a life that counts in milliseconds")
        holder.kill()
        holder.wait()
        stats = nvml.call("DeviceGetAccountingStats", card, holder.pid)
    assert (stats["isRunning"], stats["maxMemoryUsage"]) == (0, 7 * MIB)
    assert stats["time"] >= LEAST_LIFE_S * 1000
    assert abs(stats["startTime"] - running["startTime"]) < 100_000
    assert nvml.call("DeviceGetComputeRunningProcesses", card) == []
    assert nvml.error("DeviceGetAccountingStats", card, os.getpid()) == NOT_FOUND
    nvml.call("DeviceClearAccountingPids", card)
    assert nvml.call("DeviceGetAccountingPids", card) == []


def test_accounting_keeps_a_bounded_number(node: Node, nvml: Nvml) -> None:
    """The buffer has the size that NVML says; processes before the mode was switched on are not in it."""
    card = nvml.card()
    assert node.exercise("routes").status == 0
    nvml.call("DeviceSetAccountingMode", card, ENABLED)
    assert nvml.call("DeviceGetAccountingBufferSize", card) == 128
    peaks = []
    for size in (MIB, 2 * MIB, 3 * MIB):
        with node.holding(size) as holder:
            pass
        peaks.append(nvml.call("DeviceGetAccountingStats", card, holder.pid)["maxMemoryUsage"])
    assert peaks == [MIB, 2 * MIB, 3 * MIB]
