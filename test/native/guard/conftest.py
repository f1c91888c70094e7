"""Builds the libraries and the clients once, and makes nodes for the tests."""

import fcntl
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import Container, Node, Programs

from hacklib.native import build, output_dir
from hacklib.native.headers import cuda_include_dir
from hacklib.paths import REPOSITORY
from hacklib.toolchain import zig_cc
from hacklib.ui import Ui

HERE = Path(__file__).parent
SOURCES = REPOSITORY / "native" / "guard"
ROOMS = ("os", "shares", "memory", "compute", "views", "hooks")
INCLUDES: tuple[str, ...] = (*(f"-I{SOURCES / room}" for room in ROOMS), f"-I{REPOSITORY / 'api' / 'abi'}")
_C_FLAGS = ("-std=gnu17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", *INCLUDES)


def cuda_includes() -> tuple[str, ...]:
    """Where NVIDIA's headers and the generated hook table lie; the table once the guard is built."""
    return f"-I{output_dir('release') / 'generated'}", "-isystem", str(cuda_include_dir(ui=Ui()))


def compile_c(output: Path, *words: str | Path) -> Path:
    """Compile with the product's compiler; `output` is a program unless the words say otherwise."""
    compiler = zig_cc(target=f"{platform.machine()}-linux-gnu.2.17")
    subprocess.run([*map(str, compiler), *_C_FLAGS, *cuda_includes(), "-o", output, *words], check=True)
    return output


def built_once(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str, name: str, make: Callable[[Path], None]
) -> Path:
    """A directory that the first worker to come fills and all use."""
    base = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    directory = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "done").exists():
            directory.mkdir(parents=True, exist_ok=True)
            make(directory)
            (directory / "done").touch()
    return directory


def _weak_hooks() -> str:
    """C that defines every hooked function, weakly: what the stub driver does not define says NOT_SUPPORTED."""
    table = (output_dir("release") / "generated" / "hook_table.h").read_text()
    names = re.findall(r"X\((?:CUDA|NVML), (\w+), \w+, \d+", table)
    return "".join(f"int {name}(void);\n__attribute__((weak)) int {name}(void) {{ return 801; }}\n" for name in names)


def _compile_all(directory: Path, *, simgpu: Path) -> None:
    stub = directory / "stub"
    stub.mkdir(parents=True, exist_ok=True)
    more = stub / "more.c"
    more.write_text(_weak_hooks())
    libraries = ("-ldl", "-lpthread")
    compile_c(directory / "client", HERE / "client.c", *libraries)
    compile_c(directory / "hammer", HERE / "hammer.c", *libraries)
    compile_c(directory / "graphs", HERE / "graphs.c", *libraries)
    compile_c(directory / "worker", HERE / "worker.c", *libraries)
    compile_c(directory / "sharer", HERE / "sharer.c", *libraries)
    compile_c(
        stub / "libcuda.so.1",
        *("-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-Wno-cast-function-type"),
        *(HERE / "stubdriver.c", HERE / "stublaunch.c", more),
    )
    compile_c(
        directory / "linked",
        *("-DLINKED", HERE / "client.c"),
        *(simgpu / "libcuda.so.1", simgpu / "libnvidia-ml.so.1", *libraries, "-Wl,--allow-shlib-undefined"),
    )


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Programs:
    """The guard, the simulated GPU and the clients, built once for all workers."""
    output = build(preset="release", ui=Ui())

    def make(directory: Path) -> None:
        _compile_all(directory, simgpu=output / "simgpu")

    directory = built_once(tmp_path_factory, worker_id, "guard-programs", make)
    return Programs(
        guard=output / "libhami_guard.so",
        simgpu=output / "simgpu",
        client=directory / "client",
        linked=directory / "linked",
        hammer=directory / "hammer",
        graphs=directory / "graphs",
        worker=directory / "worker",
        sharer=directory / "sharer",
        stub=directory / "stub",
    )


@pytest.fixture
def make_node(programs: Programs, tmp_path: Path) -> Callable[..., Node]:
    """Make a node with simulated cards."""

    def make(*, cards: int = 1) -> Node:
        root = tmp_path / "node"
        simctl = programs.simgpu / "simctl"
        subprocess.run(
            [simctl, "create", "--root", root, "--model", "A100", "--count", str(cards)],
            check=True,
            capture_output=True,
        )
        return Node(root=root, simctl=simctl)

    return make


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A node with one simulated card."""
    return make_node()


@pytest.fixture
def stub_container(programs: Programs) -> Callable[..., Container]:
    """Make containers over the stub driver."""

    def make(**settings: object) -> Container:
        return Container(programs=programs, driver={"LD_LIBRARY_PATH": str(programs.stub)}, **settings)  # type: ignore[arg-type] # keywords of Container

    return make


@pytest.fixture(scope="session")
def host_cc() -> str:
    """The host's compiler, which has the sanitizers."""
    found = shutil.which("clang") or shutil.which("gcc")
    if found is None:
        pytest.skip("the sanitizers need the host's clang or gcc")
    return found
