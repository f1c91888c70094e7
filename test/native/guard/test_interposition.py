"""Every way to look a function up leads to its hook, for every hooked name, and no other name is touched."""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.conftest import built_once, compile_c
from native.guard.elf import read_library
from native.guard.harness import Container, Node, Programs, make_share
from native.guard.interposition import GUARD, MatrixPrograms, Table, ask, expected, read_hooks

from hacklib.native import output_dir
from hacklib.toolchain import zig_cc

HERE = Path(__file__).parent
ROUTES = ("local", "global", "deepbind", "default", "next", "versioned", "borrowed", "borrowed-version")
ADDRESS_ROUTES = ("address", "address_v2", "address-of-address")
PARENTS = ("thread", "fork", "vfork", "spawn", "exec")

pytestmark = pytest.mark.native
MakeContainer = Callable[..., Container]


@pytest.fixture(scope="session")
def table(programs: Programs) -> Table:
    """The hooks that the guard was built with."""
    assert programs.guard.is_file()
    return read_hooks(output_dir("release") / "generated")


@pytest.fixture(scope="session")
def matrix(programs: Programs, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MatrixPrograms:
    """The programs that ask, compiled once for all workers."""

    def make(directory: Path) -> None:
        source, threads = HERE / "matrix.c", "-lpthread"
        compile_c(directory / "old", "-D_GNU_SOURCE", source, "-ldl", threads)
        compile_c(directory / "early.so", "-D_GNU_SOURCE", "-DEARLY", "-shared", "-fPIC", source)
        compile_c(directory / "forwarder.so", "-D_GNU_SOURCE", "-shared", "-fPIC", HERE / "forwarder.c", "-ldl")
        host = zig_cc(target=f"{platform.machine()}-linux-gnu.{_host_glibc()}")
        subprocess.run([*host, "-O1", "-D_GNU_SOURCE", source, "-o", directory / "new", threads], check=True)
        musl = zig_cc(target=f"{platform.machine()}-linux-musl")
        subprocess.run([*musl, "-static", "-O1", HERE / "parent.c", "-o", directory / "static"], check=True)
        create: list[str | Path] = [
            programs.simgpu / "simctl",
            "create",
            "--root",
            directory / "node",
            "--model",
            "A100",
            "--count",
            "1",
        ]
        subprocess.run(create, check=True, capture_output=True)
        for name, driver in (("simgpu", directory / "node" / "usr" / "lib64"), ("stub", programs.stub)):
            _compile_linked(directory / name, driver)

    directory = built_once(tmp_path_factory, worker_id, "guard-matrix", make)
    return MatrixPrograms(
        old=directory / "old",
        new=directory / "new",
        early=directory / "early.so",
        linked={name: directory / name / "linked" for name in ("simgpu", "stub")},
        static=directory / "static",
        preload=directory / "forwarder.so",
    )


def _host_glibc() -> str:
    """The host's own version, as far as zig knows it."""
    major, minor = map(int, platform.libc_ver()[1].split(".")[:2])
    return f"{major}.{min(minor, 38)}"


def _compile_linked(directory: Path, driver: Path) -> None:
    directory.mkdir()
    libraries = [path for path in (driver / "libcuda.so.1", driver / "libnvidia-ml.so.1") if path.exists()]
    names = sorted({name for path in libraries for name in read_library(path).exported if re.match("cu|nvml", name)})
    header = "".join(f"X({name})\n" for name in names)
    (directory / "linked_names.h").write_text(header)
    declarations = directory / "declarations.h"
    declarations.write_text("".join(f"extern void {name}(void);\n" for name in names))
    flags = ("-D_GNU_SOURCE", "-DLINKED", f"-I{directory}", "-include", declarations, "-Wl,--allow-shlib-undefined")
    compile_c(directory / "linked", *flags, HERE / "matrix.c", *libraries, "-ldl", "-lpthread")


@pytest.fixture(params=["simgpu", "stub"])
def driver(request: pytest.FixtureRequest) -> str:
    """Which driver: the simulated one, or the stub, which has every hooked name."""
    return str(request.param)


@pytest.fixture
def contained(driver: str, programs: Programs, node: Node, tmp_path: Path) -> MakeContainer:
    """Make containers over that driver, with a share."""
    environment = node.environment if driver == "simgpu" else {"LD_LIBRARY_PATH": str(programs.stub)}
    share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=1 << 20)

    def make(**settings: object) -> Container:
        return Container(programs=programs, driver=environment, shares=[share.directory], **settings)  # type: ignore[arg-type] # keywords of Container

    return make


@pytest.fixture
def library(driver: str, programs: Programs, node: Node) -> Path:
    """Where the driver's libraries lie: those of the node, whose driver has a version, and exports what that version had."""
    return node.root / "usr" / "lib64" if driver == "simgpu" else programs.stub


def test_the_stub_driver_has_every_hooked_name(programs: Programs, table: Table) -> None:
    """Whatever the simulated driver lacks is asked for there."""
    cuda = {name for name in table.names if name.startswith("cu")}
    assert cuda <= read_library(programs.stub / "libcuda.so.1").exported
    assert len(table.names) > 40


@pytest.mark.parametrize("program", ["old", "new"])
@pytest.mark.parametrize("route", [*ROUTES, *ADDRESS_ROUTES])
def test_every_lookup_leads_to_the_hook(
    route: str, program: str, contained: MakeContainer, library: Path, matrix: MatrixPrograms, table: Table
) -> None:
    """By dlsym and dlvsym of each version, by each kind of handle, by cuGetProcAddress of both ABIs at every version and flag."""
    questions = table.addresses_asked(library) if route in ADDRESS_ROUTES else table.names_asked(library)
    path = matrix.old if program == "old" else matrix.new
    plain = ask(contained(guarded=False), questions, path, route)
    assert ask(contained(), questions, path, route) == expected(plain, table)


def test_a_driver_that_is_opened_by_its_file_name(
    contained: MakeContainer, library: Path, matrix: MatrixPrograms, table: Table, tmp_path: Path
) -> None:
    """The library is known by the name it carries, not by that of its file: a versioned file in a directory of its own."""
    for path in library.glob("lib*.so.1"):
        shutil.copy(path, tmp_path / f"{path.name}.0")
    settings = {"MATRIX_PATH": str(tmp_path)}
    questions = table.names_asked(library)
    plain = ask(contained(guarded=False, environment=settings), questions, matrix.old, "path")
    assert ask(contained(environment=settings), questions, matrix.old, "path") == expected(plain, table)
    assert any(answer.endswith("libcuda.so.1.0") for answer in plain.values())


@pytest.mark.parametrize("how", PARENTS)
@pytest.mark.parametrize("route", ["local", "default", "address_v2"])
def test_whoever_asks(
    route: str, how: str, contained: MakeContainer, library: Path, matrix: MatrixPrograms, table: Table
) -> None:
    """Threads, forked children, and programs started by vfork, posix_spawn and exec find the hooks as the first thread does."""
    questions = table.addresses_asked(library) if route == "address_v2" else table.names_asked(library)
    plain = ask(contained(guarded=False), questions, matrix.old, route, how)
    assert ask(contained(), questions, matrix.old, route, how) == expected(plain, table)


def test_what_the_linker_binds(contained: MakeContainer, driver: str, matrix: MatrixPrograms, table: Table) -> None:
    """A program that is linked to the driver has the hooks' addresses, and its driver's for all else."""
    program = matrix.linked[driver]
    plain = ask(contained(guarded=False), [], program, "linked")
    assert len(plain) > 40
    assert ask(contained(), [], program, "linked") == expected(plain, table)


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("route", ["local", "default", "next", "borrowed", "address_v2"])
def test_early_constructors(
    route: str, order: str, contained: MakeContainer, library: Path, matrix: MatrixPrograms, table: Table
) -> None:
    """A constructor that runs before all others, in a library preloaded before or after the guard, finds the hooks."""
    questions = table.addresses_asked(library) if route == "address_v2" else table.names_asked(library)
    settings = {"MATRIX_ROUTE": route}
    alone = contained(guarded=False, environment={**settings, "LD_PRELOAD": str(matrix.early)})
    both = _preloads(contained().programs.guard, matrix.early, order=order)
    plain = ask(alone, questions, sys.executable)
    found = ask(contained(guarded=False, environment={**settings, "LD_PRELOAD": both}), questions, sys.executable)
    assert found == expected(plain, table)


def _preloads(guard: Path, other: Path, *, order: str) -> str:
    return f"{other}:{guard}" if order == "before" else f"{guard}:{other}"


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("route", ["dlsym", "default", "next", "address_v2"])
def test_with_another_library_that_hooks_dlsym(
    order: str, route: str, stub_container: MakeContainer, matrix: MatrixPrograms, tmp_path: Path
) -> None:
    """Preloaded before or after the guard, one that forwards what it gets neither loops nor opens a way past the limit."""
    share = make_share(tmp_path, "share", uuid="GPU-11111111-1111-1111-1111-111111111111", memory_bytes=1000)
    both = _preloads(stub_container().programs.guard, matrix.preload, order=order)
    container = stub_container(shares=[share.directory], guarded=False, environment={"LD_PRELOAD": both})
    with container.client(route) as client:
        client.start()
        assert client.allocate(1001) == 2
        assert client.allocate(1000) == 0
        assert share.used_bytes == 1000


def test_a_static_programs_children(
    contained: MakeContainer, library: Path, matrix: MatrixPrograms, table: Table
) -> None:
    """A program without a dynamic linker cannot be hooked; what it runs is."""
    questions = table.names_asked(library)
    plain = ask(contained(guarded=False), questions, matrix.old, "local")
    assert ask(contained(), questions, matrix.static, matrix.old, "local") == expected(plain, table)


PYTHON_ASKS = """
import os, sys
SONAMES = ["libcuda.so.1", *(["libnvidia-ml.so.1"] if os.environ.get("SIMGPU_ROOT") else [])]
CODE
def where(address):
    for line in open("/proc/self/maps"):
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return os.path.basename(line.split()[-1])
for name in sys.stdin.read().split():
    try:
        print(name, "=", name, where(address(name)))
    except AttributeError:
        print(name, "= -")
"""
CTYPES_ASKS = """
import ctypes
libraries = [ctypes.CDLL(name) for name in SONAMES]
def address(name):
    return ctypes.cast(getattr(libraries[-1 if name.startswith("nvml") else 0], name), ctypes.c_void_p).value
"""
CFFI_ASKS = """
import cffi
ffi = cffi.FFI()
names = sys.stdin.read().split()
sys.stdin = __import__("io").StringIO(" ".join(names))
ffi.cdef("".join(f"int {name}();" for name in names))
libraries = [ffi.dlopen(name) for name in SONAMES]
def address(name):
    return int(ffi.cast("uintptr_t", getattr(libraries[-1 if name.startswith("nvml") else 0], name)))
"""


@pytest.mark.parametrize("code", [pytest.param(CTYPES_ASKS, id="ctypes"), pytest.param(CFFI_ASKS, id="cffi")])
def test_python(code: str, contained: MakeContainer, library: Path, table: Table) -> None:
    """Ctypes and cffi, whose dlsym has a version or none, find the hooks."""
    script = PYTHON_ASKS.replace("CODE", code)
    questions = table.names_asked(library)
    plain = ask(contained(guarded=False), questions, sys.executable, "-c", script)
    assert ask(contained(), questions, sys.executable, "-c", script) == expected(plain, table)


PRELOADED_BY_FILE = """
cp -a /etc /run/etc
cp "$1" /run/guard.so
mount --bind /run/etc /etc
echo /run/guard.so >/etc/ld.so.preload
cp "$2" /run/asks
shift 2
"$@"
"""


@pytest.mark.parametrize("setuid", [False, True])
def test_ld_so_preload_needs_no_environment(
    setuid: bool, contained: MakeContainer, library: Path, matrix: MatrixPrograms, table: Table
) -> None:
    """With the guard named in /etc/ld.so.preload, LD_PRELOAD may be unset and the program may be setuid."""
    plain = contained(guarded=False)
    questions = table.names_asked(library)
    known = ask(plain, questions, matrix.old, "local")
    # A setuid program is not led by LD_LIBRARY_PATH either: it must find the driver's libraries in /etc/ld.so.cache.
    become = "chmod 4755 /run/asks && ldconfig && exec setpriv --reuid 65534 --clear-groups /run/asks local"
    run = (
        ("sh", "-c", f"echo {library} >>/etc/ld.so.conf; {become}")
        if setuid
        else ("env", "-u", "LD_PRELOAD", "/run/asks", "local")
    )
    found = ask(plain, questions, "sh", "-c", PRELOADED_BY_FILE, "sh", plain.programs.guard, matrix.old, *run)
    hooks = {name: answer.replace("guard.so", GUARD) for name, answer in found.items()}
    assert hooks == expected(known, table)


def test_a_namespace_of_its_own_goes_past_the_guard(
    contained: MakeContainer, library: Path, matrix: MatrixPrograms, table: Table
) -> None:
    """Documented: a driver that is loaded by dlmopen is another copy, which the guard neither hooks nor disturbs."""
    questions = table.names_asked(library)
    plain = ask(contained(guarded=False), questions, matrix.old, "namespace")
    assert ask(contained(), questions, matrix.old, "namespace") == plain
