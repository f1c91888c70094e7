"""The hook table holds against the headers of every CUDA release, and a header with something new does not pass unseen."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from native.guard.harness import Programs

from hacklib.generate import stale
from hacklib.native import output_dir
from hacklib.native.coverage import hook_report
from hacklib.native.headers import NEWEST, RELEASES, cuda_include_dir
from hacklib.paths import REPOSITORY
from hacklib.ui import Ui

NATIVE = REPOSITORY / "native"
GENERATOR = NATIVE / "guard" / "gen" / "hooks.py"
DECLARATION = re.compile(r"\b(cu[A-Z]\w+|nvml[A-Z]\w+)\s*\(([^()]*)\)\s*;")

pytestmark = pytest.mark.native


def _generate(
    include: Path, out: Path, *, table: Path | None = None, older: bool = False
) -> "subprocess.CompletedProcess[str]":
    names = NATIVE / "simgpu" / "names"
    words: list[str | Path] = [sys.executable, GENERATOR, "--include", include, "--out", out]
    words += ["--table", table or NATIVE / "guard" / "hooks" / "table.txt"]
    words += ["--cuda-exports", names / "cuda_550.txt", "--nvml-exports", names / "nvml_550.txt"]
    words += ["--older"] if older else []
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _hooks(table: Path) -> set[str]:
    return set(re.findall(r"X\((?:CUDA|NVML), (\w+), \w+, \d+, \w+\)", table.read_text()))


def _parameters(include: Path) -> dict[str, set[str]]:
    """The parameter types of all declarations of a name: old ABIs are declared under the name of the new one, too."""
    found: dict[str, set[str]] = {}
    for header in ("cuda.h", "nvml.h"):
        text = re.sub(r"/\*.*?\*/", " ", (include / header).read_text(), flags=re.DOTALL)
        for name, parameters in DECLARATION.findall(text):
            types = [
                re.sub(r"\w+(\[\])?$", "*" if "[]" in word else "", word.strip()) for word in parameters.split(",")
            ]
            found.setdefault(name, set()).add(re.sub(r"\s+", "", ",".join(types)))
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_the_classification_covers_the_headers_of_every_release(release: str, tmp_path: Path) -> None:
    """Nothing that allocates, launches or shows is unclassified in CUDA 11.8, 12 or 13, and each gives a table of hooks."""
    done = _generate(cuda_include_dir(ui=Ui(), release=release), tmp_path, older=release != NEWEST)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(_hooks(tmp_path / "hook_table.h")) > 40


@pytest.mark.parametrize("release", [release for release in RELEASES if release != NEWEST])
def test_hooks_have_the_signatures_that_older_programs_were_compiled_with(release: str, programs: Programs) -> None:
    """The compiler holds each hook to the newest header; a function of an older release differs in names only."""
    assert programs.guard.is_file()
    hooks = _hooks(output_dir("release") / "generated" / "hook_table.h")
    old, new = (_parameters(cuda_include_dir(ui=Ui(), release=each)) for each in (release, NEWEST))
    common = sorted(hooks & set(old) & set(new))
    assert len(common) > 20
    for name in common:
        assert old[name] & new[name], name


@pytest.mark.parametrize(
    ("header", "declaration", "name"),
    [
        ("cuda.h", "CUresult CUDAAPI cuMemAllocSideways(CUdeviceptr *dptr, size_t bytes);", "cuMemAllocSideways"),
        ("cuda.h", "CUresult CUDAAPI cuLaunchSwarm(CUfunction f);", "cuLaunchSwarm"),
        ("cuda.h", "#define cuGetProcAddress cuGetProcAddress_v9", None),
        ("nvml.h", "nvmlReturn_t DECLDIR nvmlDeviceGetProcessUtilizationByName(nvmlDevice_t d);", "ByName"),
    ],
)
def test_a_new_function_of_a_watched_kind_fails_the_build_by_name(
    header: str, declaration: str, name: str | None, tmp_path: Path
) -> None:
    """An allocator, launcher or view that no line classifies is an error; a new ABI of a hooked family becomes a hook."""
    include = tmp_path / "include"
    shutil.copytree(cuda_include_dir(ui=Ui()), include)
    with (include / header).open("a") as file:
        file.write(f"\n{declaration}\n")
    done = _generate(include, tmp_path / "out")
    if name is None:
        assert "cuGetProcAddress_v9" in _hooks(tmp_path / "out" / "hook_table.h")
    else:
        assert done.returncode == 1
        assert name in done.stderr


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("cuMemAlloc hook\n", "comes twice"),
        ("cuNoSuchThing hook\n", "no header knows cuNoSuchThing"),
        ("cuMemcpy through\n", "without a reason"),
        ("cuMemcpy maybe\n", "not one of hook, through, call"),
    ],
)
def test_a_classification_that_says_nonsense_is_refused(line: str, complaint: str, tmp_path: Path) -> None:
    """Each kind of mistake in table.txt is named."""
    table = tmp_path / "table.txt"
    table.write_text((NATIVE / "guard" / "hooks" / "table.txt").read_text() + line)
    done = _generate(cuda_include_dir(ui=Ui()), tmp_path, table=table)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_the_coverage_report_counts_every_exported_name(tmp_path: Path) -> None:
    """Of driver 550 nothing is unclassified; a driver with a new launcher has it named."""
    assert "0 unclassified" in hook_report("coverage")
    exports = tmp_path / "exports.txt"
    exports.write_text("cuMemAlloc_v2 cuMemcpy cuLaunchSwarm cuCtxGetDevice cuGetExportTable\n")
    report = hook_report("coverage", cuda=exports)
    lines = [line.split()[0] for line in report.splitlines()[1:7]]
    assert lines == ["1", "1", "1", "1", "1", "cuLaunchSwarm"]


def test_the_documented_hooks_are_the_tables() -> None:
    """docs/hooks.md is what the table says."""
    assert stale(REPOSITORY, ["hooks"]) == []
