"""Every way to launch is limited, over a driver that has all of them."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import Container, make_share

KINDS = (
    *("kernel", "kernel_ptsz", "ex", "ex_ptsz", "cooperative", "cooperative_ptsz", "multi"),
    *("old", "grid", "grid_async", "graph", "graph_ptsz"),
)
STUB_UUID = "GPU-11111111-1111-1111-1111-111111111111"
KERNELS = {"STUB_KERNEL_NS": "4000000"}

pytestmark = pytest.mark.native
MakeContainer = Callable[..., Container]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("route", ["dlsym", "address_v2"])
def test_every_way_to_launch_waits_for_its_share(
    kind: str, route: str, stub_container: MakeContainer, tmp_path: Path
) -> None:
    """Forty kernels of 4 ms at half a device take longer than 160 ms less what an idle share had saved."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, cores_percent=50)
    with stub_container(shares=[share.directory], environment=KERNELS).client(route) as client:
        client.start()
        assert client.ask(f"launch {kind} 40") == ["0"]
        assert client.ask("launches") == ["40"]
        assert share.throttled_ns > 50_000_000
        assert share.gpu_time_ns > 80_000_000


@pytest.mark.parametrize("cores_percent", [0, 100])
def test_without_a_compute_limit_nothing_waits(
    cores_percent: int, stub_container: MakeContainer, tmp_path: Path
) -> None:
    """Kernels worth half a minute are launched as fast as the program likes."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, cores_percent=cores_percent)
    with stub_container(shares=[share.directory], environment={"STUB_KERNEL_NS": "1000000000"}).client() as client:
        client.start()
        assert client.ask("launch kernel 30") == ["0"]
        assert client.ask("launches") == ["30"]
        assert share.throttled_ns == 0


@pytest.mark.parametrize("kind", ["kernel", "graph"])
def test_a_lost_measure_is_no_way_out(kind: str, stub_container: MakeContainer, tmp_path: Path) -> None:
    """Without events a launch is charged the time since the one before it, so that launches still wait."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, cores_percent=10)
    environment = KERNELS | {"STUB_EVENTS": "none"}
    with stub_container(shares=[share.directory], environment=environment).client() as client:
        client.start()
        assert client.ask(f"launch {kind} 400") == ["0"]
        assert share.throttled_ns > 50_000_000


def test_what_is_captured_costs_nothing(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Launches into a capturing stream neither wait nor are charged nor measured."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, cores_percent=10)
    with stub_container(shares=[share.directory], environment=KERNELS).client() as client:
        client.start()
        assert client.ask("capture") == ["0"]
        assert client.ask("launch kernel 500") == ["0"]
        assert client.ask("launches") == ["0"]
        assert share.gpu_time_ns == 0 == share.throttled_ns


def test_a_limit_that_goes_lets_waiting_launches_go(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Launches that would wait for minutes at one percent go on when the limit is lifted while they wait."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, cores_percent=1)
    with stub_container(shares=[share.directory], environment=KERNELS).client() as client:
        client.start()
        begun = time.monotonic()
        client.tell("launch kernel 200")
        assert client.process.stdout is not None
        while share.gpu_time_ns == 0:
            assert time.monotonic() - begun < 20
        share.set_limit(uuid=STUB_UUID, memory_bytes=0, generation=2, granted_permille=1000_0)
        assert client.process.stdout.readline() == "0\n"
        assert time.monotonic() - begun < 20


def test_a_forked_child_pays_from_the_same_bucket(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Parent and child of a program spend one share's GPU time."""
    share = make_share(tmp_path, "share", uuid=STUB_UUID, cores_percent=50)
    with stub_container(shares=[share.directory], environment=KERNELS).client() as client:
        client.start()
        assert client.ask("launch kernel 20") == ["0"]
        before = share.gpu_time_ns
        assert client.ask("fork") == ["0"]
        assert client.ask("init 0") == ["0"]
        assert client.ask("launch kernel 20") == ["0"]
        assert share.gpu_time_ns > before
