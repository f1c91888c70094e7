"""Which shares the processes of a node have."""

from pathlib import Path

import pytest

from hami_dra.host.processes import ShareProcesses

USAGE = "612 590 8:1 /lib/hami-dra/claims/uid-1/gpu-s1/usage /run/hami/gpu-s1/usage rw - xfs /dev/sdb rw\n"


def process(
    proc: Path, pid: int | str, mounts: str, *, started: int = 100, name: str = "a ) b", state: str = "S"
) -> None:
    """A process with these mounts."""
    directory = proc / str(pid)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "mountinfo").write_text(mounts)
    (directory / "stat").write_text(f"{pid} ({name}) {state} " + " ".join(["0"] * 18) + f" {started} 0 0\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A procfs in which this program sees its state directory on a disk of its own."""
    proc = tmp_path / "proc"
    state = tmp_path / "state"
    state.mkdir()
    process(proc, "self", f"30 1 8:1 /lib/hami-dra {state} rw - xfs /dev/sdb rw\n")
    return proc


def test_a_process_has_the_shares_that_are_mounted(proc: Path, tmp_path: Path) -> None:
    """A process of a container, and one of the node."""
    process(proc, 7, USAGE)
    process(proc, 8, "")
    shares = ShareProcesses(tmp_path / "state" / "claims", proc=proc)
    assert shares(7) == {("uid-1", "gpu-s1")}
    assert shares(8) == shares(9) == frozenset()


def test_the_claims_in_use_are_those_of_all_processes(proc: Path, tmp_path: Path) -> None:
    """Whoever has a share of a claim keeps it in use."""
    process(proc, 7, USAGE)
    process(proc, 8, USAGE.replace("uid-1", "uid-2"))
    process(proc, 9, "")
    assert ShareProcesses(tmp_path / "state" / "claims", proc=proc).claims() == {"uid-1", "uid-2"}


LAST_WORDS = "613 590 8:2 /lib/kubelet/pods/3f-1/containers/NAME/0a1b /dev/termination-log rw - xfs /dev/sdc rw\n"


@pytest.mark.parametrize(
    ("kubelet", "expected"),
    [
        ("31 1 8:2 /lib/kubelet/plugins/gpu.hami.io ROOT/plugins/gpu.hami.io rw - xfs /dev/sdc rw\n", {"a", "b"}),
        ("31 1 8:2 /lib/elsewhere ROOT/plugins/gpu.hami.io rw - xfs /dev/sdc rw\n", None),
        ("", None),
    ],
)
def test_containers_are_known_by_what_kubelet_mounts(
    proc: Path, tmp_path: Path, kubelet: str, expected: set[str] | None
) -> None:
    """Two of a share, none of a process outside of pods; unknown where kubelet's directory is not found."""
    state = (proc / "self" / "mountinfo").read_text()
    process(proc, "self", state + kubelet.replace("ROOT", str(tmp_path / "kubelet")))
    process(proc, 7, USAGE + LAST_WORDS.replace("NAME", "a"))
    process(proc, 8, USAGE + LAST_WORDS.replace("NAME", "b"))
    process(proc, 9, USAGE)
    process(proc, 10, LAST_WORDS.replace("NAME", "c"))
    shares = ShareProcesses(tmp_path / "state" / "claims", kubelet_root=tmp_path / "kubelet", proc=proc)
    assert shares.containers() == ({} if expected is None else {("uid-1", "gpu-s1"): expected})
    assert shares(7) == {("uid-1", "gpu-s1")}


def test_a_pid_that_is_used_again_is_another_process(proc: Path, tmp_path: Path) -> None:
    """What is known of a process is kept as long as it lives."""
    process(proc, 7, USAGE)
    shares = ShareProcesses(tmp_path / "state" / "claims", proc=proc)
    assert shares(7)
    process(proc, 7, "")
    assert shares(7)
    process(proc, 7, "", started=200)
    assert not shares(7)


def test_a_process_that_executes_something_is_looked_at_again(proc: Path, tmp_path: Path) -> None:
    """The runtime's own process becomes the container's when it has mounted everything."""
    process(proc, 7, "", name="runc:[2:INIT]")
    shares = ShareProcesses(tmp_path / "state" / "claims", proc=proc)
    assert not shares(7)
    process(proc, 7, USAGE, name="python3")
    assert shares(7)


def test_a_zombie_has_nothing(proc: Path, tmp_path: Path) -> None:
    """Of a process that ended only the number is left, however long its parent lets it wait."""
    process(proc, 7, USAGE)
    shares = ShareProcesses(tmp_path / "state" / "claims", proc=proc)
    assert shares(7)
    process(proc, 7, "", state="Z")
    assert not shares(7)


def test_what_is_remembered_is_bounded(proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes come and go for months."""
    monkeypatch.setattr("hami_dra.host.processes._KNOWN", 2)
    shares = ShareProcesses(tmp_path / "state" / "claims", proc=proc)
    for pid in range(10, 20):
        process(proc, pid, USAGE)
        assert shares(pid)
    assert len(shares._known) <= 2


def test_without_its_own_mounts_nothing_can_be_told(tmp_path: Path) -> None:
    """A procfs that is not there, or shows nothing, attributes nothing."""
    assert ShareProcesses(tmp_path, proc=tmp_path / "none")(1) == frozenset()


def test_the_procfs_of_this_machine_can_be_read(tmp_path: Path) -> None:
    """The real thing: this process has no share."""
    import os  # noqa: PLC0415 - the only test that needs it

    assert ShareProcesses(tmp_path)(os.getpid()) == frozenset()
