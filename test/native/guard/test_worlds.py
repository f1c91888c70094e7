"""The released library in the worlds that programs live in: an old glibc, musl, and arm64."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from native.guard.conftest import INCLUDES, built_once, cuda_includes
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, Share, make_share

from hacklib.native import build
from hacklib.toolchain import zig_cc
from hacklib.ui import Ui
from hacklib.worlds import emulated_arm64, musl, old_glibc

HERE = Path(__file__).parent
ROUTES = ("dlsym", "deepbind", "default", "next", "address", "address_v2")
LIMIT = 1 << 20

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="these packages are x86-64's")
pytestmark = pytest.mark.native


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A mebibyte of the only card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


def _inside(root: Path, directories: list[Path], words: list[str | Path]) -> list[str | Path]:
    return ["sh", HERE / "inside.sh", root, *directories, "--", *words]


@pytest.fixture
def old_root(tmp_path: Path) -> Path:
    """A writable copy of a root file system with glibc 2.23."""
    root = tmp_path / "root"
    shutil.copytree(old_glibc(ui=Ui()), root, symlinks=True)
    (root / "tmp").mkdir()
    return root


def _preload_by_file(root: Path, guard: Path) -> None:
    (root / "opt").mkdir()
    shutil.copy(guard, root / "opt" / "guard.so")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "ld.so.preload").write_text("/opt/guard.so\n")


def _speak(container: Container, words: list[str | Path], lines: list[str]) -> list[str]:
    done = subprocess.run(
        container.command(*words), input="\n".join([*lines, "quit\n"]), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


CONVERSATION = [
    "open",
    "init 0",
    f"alloc sync {LIMIT + 512}",
    f"alloc sync {LIMIT}",
    "alloc async 512",
    "free 0",
    "view",
]
HELD = ["1", "0", f"{OUT_OF_MEMORY} -1 errno-kept", "0 0 errno-kept", f"{OUT_OF_MEMORY} 0 errno-kept", "0"]
"""What a client says that is held to its limit; the last answer is the view of an empty share."""


@x86_64
@pytest.mark.parametrize("route", ROUTES)
def test_glibc_2_23_limits_a_client(
    route: str, old_root: Path, node: Node, programs: Programs, share: Share, tmp_path: Path
) -> None:
    """With the guard in the image's /etc/ld.so.preload a client is refused above its share, by every route."""
    _preload_by_file(old_root, programs.guard)
    shutil.copy(programs.client, old_root / "opt" / "client")
    shutil.copytree(programs.simgpu, old_root / "opt" / "simgpu")
    environment = {"SIMGPU_ROOT": str(node.root), "LD_LIBRARY_PATH": "/opt/simgpu"}
    container = Container(programs=programs, driver={}, shares=[share.directory], guarded=False)
    visible = [Path("/run"), Path("/proc"), Path("/dev"), node.root]
    settings = [f"{name}={value}" for name, value in environment.items()]
    words = _inside(old_root, visible, ["/usr/bin/env", *settings, "/opt/client", route])
    answers = _speak(container, words, CONVERSATION)
    assert answers == [*HELD, f"0 {LIMIT} {LIMIT} {LIMIT}"]
    assert share.peak_bytes == LIMIT
    assert tmp_path in old_root.parents


@x86_64
def test_glibc_2_23_runs_its_own_programs_as_before(old_root: Path, programs: Programs) -> None:
    """A shell and the usual tools of that image start, work and say nothing more."""
    _preload_by_file(old_root, programs.guard)
    script = "ls / | sort | head -n 1; printf %s x | wc -c; id -u; (exit 3); echo $?; cat /etc/ld.so.preload"
    container = Container(programs=programs, driver={}, guarded=False)
    done = subprocess.run(
        container.command(*_inside(old_root, [Path("/proc")], ["/bin/dash", "-c", script])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["bin", "1", "0", "3", "/opt/guard.so"]


@x86_64
@pytest.mark.parametrize("by", ["nothing", "environment", "file"])
def test_musl_runs_its_programs_as_before(by: str, programs: Programs, tmp_path: Path) -> None:
    """Under musl the guard does nothing and breaks nothing: preloaded by LD_PRELOAD, or named in a file that musl ignores."""
    root = tmp_path / "root"
    shutil.copytree(musl(ui=Ui()), root, symlinks=True)
    _preload_by_file(root, programs.guard)
    if by != "file":
        (root / "etc" / "ld.so.preload").unlink()
    within = root / programs.guard.relative_to("/")  # chroot itself is preloaded, too
    within.parent.mkdir(parents=True)
    shutil.copy(programs.guard, within)
    compiler = zig_cc(target="x86_64-linux-musl")
    program = root / "opt" / "program"
    subprocess.run([*compiler, "-dynamic", "-O1", "-D_GNU_SOURCE", "-o", program, HERE / "musl.c"], check=True)
    preload = {"LD_PRELOAD": str(programs.guard)} if by == "environment" else {}
    environment = {"PATH": os.environ["PATH"], **preload}
    done = subprocess.run(
        ["chroot", root, "/opt/program"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "1 1 0 1 0 7\n")


@pytest.fixture(scope="session")
def arm64_client(programs: Programs, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """client.c for arm64, compiled once for all workers."""
    assert programs.guard.is_file()

    def make(directory: Path) -> None:
        compiler = zig_cc(target="aarch64-linux-gnu.2.17")
        words: list[str | Path] = [
            "-std=gnu17",
            "-O1",
            *INCLUDES,
            *cuda_includes(),
            HERE / "client.c",
            "-ldl",
            "-lpthread",
        ]
        subprocess.run([*compiler, *words, "-o", directory / "client"], check=True)

    return built_once(tmp_path_factory, worker_id, "guard-arm64", make) / "client"


@pytest.mark.parametrize("route", ROUTES)
def test_arm64_limits_a_client(route: str, arm64_client: Path, node: Node, programs: Programs, share: Share) -> None:
    """Guard and simulated GPU, built for arm64 and run by an emulator, refuse a client above its share, by every route."""
    output = build(preset="arm64", ui=Ui())
    emulator, root = emulated_arm64(ui=Ui())
    environment = {"SIMGPU_ROOT": str(node.root), "LD_LIBRARY_PATH": str(output / "simgpu")}
    container = Container(programs=programs, driver=environment, shares=[share.directory], guarded=False)
    guest: list[str | Path] = [
        emulator,
        "-L",
        root,
        "-E",
        f"LD_PRELOAD={output / 'libhami_guard.so'}",
        arm64_client,
        route,
    ]
    assert _speak(container, guest, CONVERSATION) == [*HELD, f"0 {LIMIT} {LIMIT} {LIMIT}"]
    assert share.peak_bytes == LIMIT


@pytest.mark.parametrize("ending", ["fork", "kill"])
def test_arm64_children_and_deaths(
    ending: str, arm64_client: Path, node: Node, programs: Programs, share: Share
) -> None:
    """There, too, a forked child shares the limit with its parent, and what a killed process held comes back."""
    output = build(preset="arm64", ui=Ui())
    emulator, root = emulated_arm64(ui=Ui())
    environment = {"SIMGPU_ROOT": str(node.root), "LD_LIBRARY_PATH": str(output / "simgpu")}
    container = Container(programs=programs, driver=environment, shares=[share.directory], guarded=False)
    guest: list[str | Path] = [
        emulator,
        "-L",
        root,
        "-E",
        f"LD_PRELOAD={output / 'libhami_guard.so'}",
        arm64_client,
        "dlsym",
    ]
    if ending == "fork":
        lines = ["fork", "open", "init 0", f"alloc sync {LIMIT}", "quit", "open", "init 0", f"alloc sync {LIMIT}"]
        answers = _speak(container, guest, lines)
        assert answers == ["0", "1", "0", "0 0 errno-kept", "1", "0", "0 0 errno-kept"]
    else:
        stopped = ["open", "init 0", f"alloc sync {LIMIT}", "die"]
        done = subprocess.run(
            container.command(*guest), input="\n".join(stopped) + "\n", capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert _speak(container, guest, CONVERSATION)[:4] == HELD[:4]
