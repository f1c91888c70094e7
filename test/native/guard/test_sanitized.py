"""The whole guard, preloaded as in a container, built with the address and undefined-behaviour sanitizers."""

import dataclasses
import platform
import re
import subprocess
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, make_share

from hacklib.native import build
from hacklib.ui import Ui

LIMIT = 1 << 30

pytestmark = [pytest.mark.native, pytest.mark.timeout(900)]  # the build is in it, where nobody built yet


@pytest.fixture(scope="session")
def sanitized(programs: Programs) -> Programs:
    """The same programs with another guard, built if it lacks; the sanitizers' runtimes have to come before it."""
    guard = build(preset="asan", ui=Ui()) / "libhami_guard.so"
    return dataclasses.replace(programs, guard=Path(":".join([*_runtimes(guard), str(guard)])))


def _runtimes(guard: Path) -> list[str]:
    """What the compiler that built the library wants to be loaded first: gcc links it, clang leaves it to the program."""
    listed = subprocess.run(["ldd", guard], capture_output=True, text=True, check=True).stdout
    linked = re.findall(r"lib(?:asan|ubsan|clang_rt\.)\S* => (/\S+)", listed)
    if linked or b"__asan_init" not in guard.read_bytes():  # zig's compiler brings no address sanitizer
        return linked
    cache = (guard.parent / "build" / "CMakeCache.txt").read_text(encoding="utf-8")
    (compiler,) = re.findall(r"^CMAKE_C_COMPILER:\w+=(.+)$", cache, re.MULTILINE)
    words = [compiler, f"-print-file-name=libclang_rt.asan-{platform.machine()}.so"]
    runtime = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(runtime).is_file():
        pytest.skip(f"{compiler} built the guard, but its address sanitizer lacks as a shared library: {runtime}")
    return [runtime]


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
