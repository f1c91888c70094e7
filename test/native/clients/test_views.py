"""NVML clients that nobody here wrote, beside a process that holds memory of the same share and one of another share."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from native.clients.programs.common import GIB, SHARE
from native.guard.harness import Client, Container, Node, Programs, make_share

pytestmark = [pytest.mark.native, pytest.mark.timeout(600)]  # the first run makes the environment


@pytest.fixture
def holder(container: Container) -> Iterator[Client]:
    """A process that holds 1 GiB of the share."""
    with container.client() as client:
        assert client.start().allocate(GIB) == 0
        yield client


@pytest.fixture(autouse=True)
def stranger(node: Node, programs: Programs, tmp_path: Path) -> Iterator[Client]:
    """A process of another share of the card, which holds 2 GiB."""
    share = make_share(tmp_path, "other", uuid=node.cards()[0].uuid, memory_bytes=SHARE)
    with Container(programs=programs, driver=node.environment, shares=[share.directory]).client() as client:
        assert client.start().allocate(2 * GIB) == 0
        yield client


def test_nvidia_ml_py_and_nvitop(seen_by: Callable[..., dict[str, Any]], holder: Client) -> None:
    """Both show the share's size and use, and the process in it with what it holds; of the stranger they show nothing."""
    seen = seen_by("nvml", "nvml_views")
    assert [seen[client] for client in ("pynvml", "pynvml2", "nvitop")] == [[SHARE, GIB, SHARE - GIB]] * 3
    for client in ("processes", "processes_of_nvitop"):
        assert seen[client] == {str(holder.process.pid): GIB}


def test_gpustat(container: Container, python: Callable[[str], Path], holder: Client) -> None:
    """Its own program shows the share, and the process in it alone."""
    shown = json.loads(container.run(python("nvml"), "-m", "gpustat", "--json", "--show-all"))
    (gpu,) = shown["gpus"]
    assert (gpu["memory.total"], gpu["memory.used"]) == (SHARE >> 20, GIB >> 20)
    (process,) = gpu["processes"]
    assert (process["pid"], process["gpu_memory_usage"]) == (holder.process.pid, GIB >> 20)


def test_nvitop(container: Container, python: Callable[[str], Path], holder: Client, stranger: Client) -> None:
    """Its own program, in its one-shot form, shows the share and the process in it alone."""
    shown = container.run(python("nvml"), "-m", "nvitop", "--once", "--ascii", "--colorful")
    assert "1024MiB / 4096MiB" in shown
    assert str(holder.process.pid) in shown
    assert str(stranger.process.pid) not in shown
