"""The whole guard, preloaded as in a container, built with the address and undefined-behaviour sanitizers."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, make_share

from hacklib.native import build
from hacklib.ui import Ui

LIMIT = 1 << 30

pytestmark = pytest.mark.native


@pytest.fixture(scope="session")
def sanitized(programs: Programs) -> Programs:
    """The same programs with another guard; the sanitizers' runtimes have to come before it."""
    if shutil.which("gcc") is None:
        pytest.skip("the address sanitizer's runtime comes with gcc, which is not installed")
    guard = build(preset="asan", ui=Ui()) / "libhami_guard.so"
    runtimes = [
        subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    return dataclasses.replace(programs, guard=Path(":".join([*runtimes, str(guard)])))


@pytest.fixture
def container(node: Node, sanitized: Programs, tmp_path: Path) -> Container:
    """With a share of the only card; what the driver and the program leak is their business."""
    share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT, cores_percent=50)
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return Container(programs=sanitized, driver=node.environment, shares=[share.directory], environment=options)


def test_no_access_goes_astray_over_all_routes(container: Container, node: Node) -> None:
    """Eight threads on every route to memory; a finding would end the program with a report."""
    granted, refused = container.run(container.programs.hammer, "3", "2000", str(LIMIT // 48), "8").split()[-2:]
    assert int(granted) > 0
    assert int(refused) > 0
    assert node.cards()[0].peak_bytes <= LIMIT


def test_no_access_goes_astray_in_views_and_launches(container: Container) -> None:
    """Memory, process lists and launches of one client."""
    with container.client() as client:
        client.start()
        assert client.allocate(LIMIT + 1) == OUT_OF_MEMORY
        assert client.allocate(LIMIT // 2) == 0
        assert client.view() == (LIMIT // 2, LIMIT, LIMIT)
        assert client.processes() == [(client.process.pid, LIMIT // 2)]
        client.quit()
