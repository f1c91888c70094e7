"""The guard is a guest in every program: it changes nothing, costs little, and loads wherever a C library does."""

import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.conftest import INCLUDES, cuda_includes
from native.guard.elf import read_library
from native.guard.harness import Container, Programs, make_share

from hacklib.native import output_dir
from hacklib.paths import REPOSITORY
from hacklib.toolchain import zig_cc

UUID = "GPU-11111111-1111-1111-1111-111111111111"
GLIBC_FLOOR = (2, 17)
SOURCES = REPOSITORY / "native" / "guard"

pytestmark = pytest.mark.native
MakeContainer = Callable[..., Container]


def _hook_names() -> set[str]:
    header = (output_dir("release") / "generated" / "hook_table.h").read_text()
    return set(re.findall(r"X\((?:CUDA|NVML), (\w+), \w+, \d+, \w+\)", header))


def _check_library(path: Path) -> None:
    library = read_library(path)
    assert library.exported == _hook_names() | {"dlsym", "dlvsym"}
    assert library.needed <= {"libc.so.6", "libdl.so.2", "libpthread.so.0"}
    assert library.constructors == 0
    for version in library.versions:
        number = re.fullmatch(r"GLIBC_([\d.]+)", version)
        assert number, version
        assert tuple(map(int, number.group(1).split("."))) <= (*GLIBC_FLOOR, 99), version


def test_the_library_exports_its_hooks_and_needs_an_old_c_library_only(programs: Programs) -> None:
    """Exports are the hook table and dlsym, dlvsym; no constructors; nothing newer than glibc 2.17."""
    assert len(_hook_names()) > 40
    _check_library(programs.guard)


def test_it_builds_for_arm64(programs: Programs, tmp_path: Path) -> None:
    """The same sources make the same library for the other architecture."""
    assert programs.guard.is_file()  # and with it the generated table
    output = tmp_path / "libhami_guard.so"
    flags = (
        "-std=gnu17",
        "-O2",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Werror",
    )
    subprocess.run(
        [
            *zig_cc(target="aarch64-linux-gnu.2.17"),
            *flags,
            *("-D_GNU_SOURCE", *INCLUDES, *cuda_includes(), f"-Wl,--version-script={SOURCES / 'guard.map'}"),
            *("-o", str(output), *sorted(map(str, SOURCES.rglob("*.c"))), "-ldl"),
        ],
        check=True,
    )
    _check_library(output)


def test_a_process_without_cuda_is_left_alone(stub_container: MakeContainer, tmp_path: Path) -> None:
    """Before the first hooked call no file of ours is open or mapped; loading the driver alone changes nothing either."""
    share = make_share(tmp_path, "s", uuid=UUID, memory_bytes=1000)
    with stub_container(shares=[share.directory]).client() as client:
        assert client.ask("maps") == ["0"]
        assert client.start().ask("maps") == ["0"]
        assert share.usage == bytes(len(share.usage))
        assert client.allocate(1) == 0
        assert client.ask("maps") == ["1"]


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
            Path(__file__).parent / "next.c",
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
