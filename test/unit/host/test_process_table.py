"""Pods of real processes, and their end."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hami_dra.core.errors import NodeStateError
from hami_dra.host.health_file import HealthFile
from hami_dra.host.process_table import ProcessTable

UID = "6b0f2a6e-0000-4000-8000-00000000000a"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits to be killed."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_pod_is_known_by_the_cgroup_of_its_process(tmp_path: Path) -> None:
    """A process that has ended has none."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"0::/kubepods/pod{UID}/4f0c\n")
    table = ProcessTable(proc=tmp_path)
    assert table.pod_uid(7) == UID
    assert table.pod_uid(8) is None
    assert ProcessTable().pod_uid(os.getpid()) is None


def test_a_process_is_killed_when_it_is_the_one_that_is_meant(sleeper: subprocess.Popen[bytes]) -> None:
    """And left alone when it is not; one that has ended is nobody any more."""
    table = ProcessTable()
    assert not table.kill(sleeper.pid, still=lambda _pid: False)
    assert sleeper.poll() is None
    assert table.kill(sleeper.pid, still=lambda pid: pid == sleeper.pid)
    assert sleeper.wait() == -9
    assert not table.kill(sleeper.pid, still=lambda _pid: True)


def test_a_process_that_ends_during_the_check_is_not_mistaken_for_another(sleeper: subprocess.Popen[bytes]) -> None:
    """The signal goes to what was pinned, which is gone."""

    def end(_pid: int) -> bool:
        sleeper.kill()
        sleeper.wait()
        return True

    assert not ProcessTable().kill(sleeper.pid, still=end)


def test_without_the_right_to_kill_it_says_what_lacks(sleeper: subprocess.Popen[bytes]) -> None:
    """The watchdog's policy Stop needs CAP_KILL."""

    def forbid(_pid: int) -> bool:
        raise PermissionError

    with pytest.raises(NodeStateError, match="CAP_KILL"):
        ProcessTable().kill(sleeper.pid, still=forbid)


def test_a_file_that_is_not_there_is_empty_and_one_that_is_no_file_is_an_error(tmp_path: Path) -> None:
    """The first start of a node, and a mistake of whoever set it up."""
    file = HealthFile(tmp_path / "health.json")
    assert file.read() == ""
    file.write("{}")
    assert file.read() == "{}"
    with pytest.raises(NodeStateError, match="cannot read what is known of the cards"):
        HealthFile(tmp_path).read()
