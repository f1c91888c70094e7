"""The guard is a guest in every program: it changes nothing, costs little, and loads wherever a C library does."""

import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.conftest import compile_c
from native.guard.elf import read_library
from native.guard.harness import Container, Programs, make_share

from hacklib.native import build, output_dir
from hacklib.toolchain import zig_cc
from hacklib.ui import Ui

UUID = "GPU-11111111-1111-1111-1111-111111111111"
GLIBC_FLOOR = (2, 17)
HERE = Path(__file__).parent

pytestmark = pytest.mark.native
MakeContainer = Callable[..., Container]


def _hook_names() -> set[str]:
    header = (output_dir("release") / "generated" / "hook_table.h").read_text()
    return set(re.findall(r"X\((?:CUDA|NVML), (\w+), \w+, \d+, \w+\)", header))


def _check_library(path: Path) -> None:
    library = read_library(path)
    assert library.exported == _hook_names() | {"dlsym", "dlvsym"}
    assert library.needed == {"libc.so.6"}
    assert library.constructors == 0
    for version in library.versions:
        number = re.fullmatch(r"GLIBC_([\d.]+)", version)
        assert number, version
        assert tuple(map(int, number.group(1).split("."))) <= (*GLIBC_FLOOR, 99), version


def test_the_library_exports_its_hooks_and_needs_an_old_c_library_only(programs: Programs) -> None:
    """Exports are the hook table and dlsym, dlvsym; no constructors; nothing newer than glibc 2.17."""
    assert len(_hook_names()) > 40
    _check_library(programs.guard)


def test_it_builds_for_arm64() -> None:
    """The same sources make the same library for the other architecture."""
    _check_library(build(preset="arm64", ui=Ui()) / "libhami_guard.so")


def test_a_process_without_cuda_is_left_alone(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Before the first hooked call no file of ours is open or mapped; loading the driver alone changes nothing either."""
    share = make_share(tmp_path, "s", uuid=UUID, memory_bytes=1000)
    with stub_container(shares=[share.directory]).client() as client:
        assert client.ask("maps") == ["0"]
        assert client.start().ask("maps") == ["0"]
        assert share.usage == bytes(len(share.usage))
        assert client.allocate(1) == 0
        assert client.ask("maps") == ["1"]


STILL = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
"""An environment in which programs make the same calls each time."""


@pytest.mark.parametrize("words", [["true"], ["ls", "/"], ["sort", "/dev/null"], [sys.executable, "-S", "-c", "0"]])
def test_a_process_without_cuda_makes_no_system_call_more(
    words: list[str], programs: Programs, syscalls: Path, tmp_path: Path
) -> None:
    """Beyond those that map the library: counted by ptrace, for programs from `true` to Python."""
    counts = []
    for preload in ({}, {"LD_PRELOAD": str(programs.guard)}):
        settings = [f"{name}={value}" for name, value in preload.items()]
        subprocess.run(
            [syscalls, tmp_path / "calls", "env", *settings, *words], check=True, stdout=subprocess.DEVNULL, env=STILL
        )
        counts.append(Counter((tmp_path / "calls").read_text().split()))
    plain, guarded = counts
    assert not plain - guarded
    assert set(guarded - plain) == {"loading"}
    assert (guarded - plain).total() <= 12


@pytest.fixture(scope="module")
def syscalls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The counter of system calls."""
    return compile_c(tmp_path_factory.mktemp("syscalls") / "syscalls", "-D_GNU_SOURCE", HERE / "syscalls.c")


@pytest.mark.parametrize("route", ["dlsym", "address_v2"])
def test_what_belongs_to_the_process_stays_as_it_is(route: str, stub_container: MakeContainer, tmp_path: Path) -> None:
    """Signals, umask, threads, environment, directory and low descriptors are the same before, while and after it limits."""
    share = make_share(tmp_path, "s", uuid=UUID, memory_bytes=1000)
    with stub_container(shares=[share.directory]).client(route) as client:
        assert client.ask("open") == ["1"]
        before = client.ask("self")
        assert client.ask("init 0") == ["0"]
        assert client.allocate(1000) == 0
        assert client.allocate(1) == 2
        assert client.ask("self") == before
        assert client.ask("free 0") == ["0"]
        assert client.view()[0] == 1000
        assert client.ask("self") == before


def test_a_reader_of_views_takes_no_slot(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Looking costs no place among the 1024 processes of a share."""
    share = make_share(tmp_path, "s", uuid=UUID, memory_bytes=1000)
    with stub_container(shares=[share.directory]).client() as client:
        assert client.start().view()[0] == 1000
        assert not any(share.usage[4096:])


def test_it_prints_nothing(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Neither refusals nor broken shares leave a word on standard error."""
    share = make_share(tmp_path, "s", uuid=UUID, memory_bytes=1000)
    (share.directory / "usage").unlink()
    container = stub_container(shares=[share.directory])
    done = subprocess.run(
        container.command(container.programs.client, "dlsym"),
        input="open\ninit 0\nalloc sync 1\nquit\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "0", "2", "-1", "errno-kept"]
    assert done.stderr == ""


def test_lookups_behind_the_caller_keep_their_meaning(stub_container: MakeContainer, tmp_path: Path) -> None:
    """RTLD_NEXT is relative to the caller: a program's own name is not found behind it (a field bug of others)."""
    program = tmp_path / "next"
    subprocess.run(
        [
            *zig_cc(target=f"{platform.machine()}-linux-gnu.2.17"),
            "-D_GNU_SOURCE",
            "-O1",
            "-rdynamic",
            "-o",
            program,
            HERE / "next.c",
            "-ldl",
        ],
        check=True,
    )
    assert stub_container(guarded=False).run(program) == stub_container().run(program) == "1 1 1 1\n"


PRELOAD_EVERYWHERE = """
cp -a /etc /run/etc
cp "$1" /run/guard.so
mount --bind /run/etc /etc
echo /run/guard.so >/etc/ld.so.preload
cp "$2" /run/suid
chmod 4755 /run/suid
for program in ls id sort; do $program </dev/null >/dev/null || exit 1; done
printf 'maps\\nquit\\n' | setpriv --reuid 65534 --clear-groups /run/suid
"""


def test_every_program_starts_with_it_in_ld_so_preload(programs: Programs, stub_container: MakeContainer) -> None:
    """Shells, tools and a setuid program run as before, and say nothing, when /etc/ld.so.preload names the guard."""
    container = stub_container(guarded=False)
    done = subprocess.run(
        container.command("sh", "-c", PRELOAD_EVERYWHERE, "sh", programs.guard, programs.client),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
