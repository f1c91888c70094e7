"""What is wanted of control daemons, and what is said of them."""

from dataclasses import replace

import pytest
from unit.claims import claim, config, gpu_config, result
from unit.core.inventories import inventory

from hami_dra.core.allocation import read_allocation
from hami_dra.core.cdi import share_data
from hami_dra.core.ids import GpuUuid
from hami_dra.core.mps import Answer, Wanted, answer_from_json, to_json, wanted_from_json, wanted_of
from hami_dra.core.plan import PlannedShare, plan_claim
from hami_dra.core.resolve import resolve

WANTED = Wanted(uuid=GpuUuid("GPU-1"), percent=30, memory_bytes=1 << 30)


def share(isolation: str = "MPS", *, memory: str = "16Gi", cores: int = 30) -> PlannedShare:
    """One planned share."""
    consumed = {"memory": memory, "cores": str(cores)}
    made = claim(result(consumedCapacity=consumed), configs=(config(gpu_config(isolation=isolation)),))
    allocation = read_allocation(made)
    return plan_claim(allocation, resolve(allocation), inventory()).shares[0]


def test_the_guard_passes_the_share_on() -> None:
    """The page has the part of the multiprocessors, all where no cores were asked for, and no compute limit of its own."""
    for cores, percent in ((30, 30), (0, 100)):
        limits = share(cores=cores).limits
        assert limits is not None
        assert (limits.mps_percent, limits.cores_percent, limits.memory_limit_bytes) == (percent, 0, 16 << 30)
    guarded = share("Guard").limits
    assert guarded is not None
    assert (guarded.mps_percent, guarded.cores_percent) == (0, 30)


def test_the_container_finds_the_daemon() -> None:
    """Its pipe directory and what server and client share as /dev/shm are mounted; limits travel by no variable."""
    edits = share_data("uid", share().spec)["containerEdits"]
    key = share().spec.key
    assert [mount["containerPath"] for mount in edits["mounts"][2:]] == [f"/run/hami/{key}/mps", "/dev/shm"]
    assert edits["env"] == [f"CUDA_MPS_PIPE_DIRECTORY=/run/hami/{key}/mps"]
    assert "env" not in share_data("uid", share("Guard").spec)["containerEdits"]


def test_a_daemon_lets_the_largest_client_have_its_own() -> None:
    """Each figure is the largest of the shares with MPS; where there is none, no daemon is wanted."""
    wanted = wanted_of([share(memory="1Gi", cores=50), share(memory="4Gi", cores=20), share("TimeSlicing", cores=0)])
    assert wanted == Wanted(uuid=GpuUuid(share().gpu_uuid), percent=50, memory_bytes=4 << 30)
    assert wanted_of([share("Guard")]) is None


def test_more_than_wanted_is_enough() -> None:
    """A daemon that was told of a larger client does for a smaller one, on the same device."""
    more = replace(WANTED, percent=60, memory_bytes=2 << 30)
    assert more.suffices(WANTED)
    assert not WANTED.suffices(more)
    assert not replace(more, uuid=GpuUuid("GPU-2")).suffices(WANTED)


def test_what_is_written_is_read_back() -> None:
    """Both files, with and without a daemon."""
    assert wanted_from_json(to_json(WANTED)) == WANTED
    for answer in (Answer(serves=WANTED, ends=2), Answer(serves=None, ends=1, message="killed")):
        assert answer_from_json(to_json(answer)) == answer


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"uuid":"GPU-1","percent":"much","memory_bytes":1}', '{"serves":{}}']
)
def test_nonsense_says_nothing(text: str) -> None:
    """A file that is damaged, or not there, is as good as none."""
    assert wanted_from_json(text) is None
    assert answer_from_json(text) is None
