"""Which programs are built, from what, and when they are built again."""

import dataclasses
import re
import shutil
from pathlib import Path

import pytest

from hacklib.binaries import KUBERNETES_VERSIONS, parse_minor
from hacklib.binaries.libseccomp import Libseccomp
from hacklib.binaries.recipe import MinorVersion, Unit, base_unit, kubernetes_unit
from hacklib.ui import HackError

ALL_UNITS = [base_unit(), *map(kubernetes_unit, KUBERNETES_VERSIONS)]


@pytest.mark.parametrize("text", ["1.36", "v1.36", "1.36.3", "v1.36.3"])
def test_a_version_can_be_written_in_several_ways(text: str) -> None:
    """Minor or whole, with or without the v."""
    assert parse_minor(text) == "1.36"


@pytest.mark.parametrize("text", ["", "1.33", "1.36.4", "latest", "36"])
def test_other_versions_are_refused_with_the_list(text: str) -> None:
    """Whoever asks for a version that cannot be built is told which can."""
    with pytest.raises(HackError, match=r"1\.36, 1\.35, 1\.34"):
        parse_minor(text)


@pytest.mark.parametrize("minor", KUBERNETES_VERSIONS)
def test_modules_pin_the_version_they_are_named_after(minor: MinorVersion) -> None:
    """go.mod, which decides what is compiled, and the recipe, which says so, agree; every staging module is replaced."""
    text = (kubernetes_unit(minor).module / "go.mod").read_text(encoding="utf-8")
    version = KUBERNETES_VERSIONS[minor]
    assert f"k8s.io/kubernetes v{version}" in text
    replaced = re.findall(r"^\s*(?:replace )?(k8s\.io/\S+) => (\S+) v(\S+)$", text, re.MULTILINE)
    assert len(replaced) > 25
    assert {(source == target, shown) for source, target, shown in replaced} == {(True, f"0.{version[2:]}")}


def test_the_base_unit_is_built_from_the_versions_that_it_reports() -> None:
    """The versions set by the linker are those of go.mod."""
    text = (base_unit().module / "go.mod").read_text(encoding="utf-8")
    reported = {name: value for target in base_unit().targets for name, value in target.variables}
    for module, variable in (
        ("github.com/containerd/containerd/v2", "github.com/containerd/containerd/v2/version.Version"),
        ("helm.sh/helm/v4", "helm.sh/helm/v4/internal/version.version"),
        ("sigs.k8s.io/kwok", "sigs.k8s.io/kwok/pkg/consts.Version"),
        ("sigs.k8s.io/cri-tools", "sigs.k8s.io/cri-tools/pkg/version.Version"),
    ):
        assert f"{module} {reported[variable]}" in text


def test_units_have_different_keys() -> None:
    """No two units share a folder."""
    assert len({unit.key for unit in ALL_UNITS}) == len(ALL_UNITS)


@pytest.mark.parametrize("changed", ["module/go.mod", "module/go.sum", "sources/main.go"])
def test_a_key_follows_what_goes_into_a_unit(tmp_path: Path, changed: str) -> None:
    """Whoever changes a version, a checksum or a main package gets another folder, hence a new build."""
    unit = base_unit()
    shutil.copytree(unit.module, tmp_path / "module")
    shutil.copytree(unit.sources, tmp_path / "sources")
    copy = dataclasses.replace(unit, module=tmp_path / "module", sources=tmp_path / "sources")
    assert copy.key == unit.key
    with (tmp_path / changed).open("a") as file:
        file.write("// changed\n")
    assert copy.key != unit.key


def test_programs_answer_to_the_names_that_are_linked_to_them() -> None:
    """Each link of a unit is a case of its main package's switch."""
    for unit in ALL_UNITS:
        for _, names in unit.links:
            assert cases(unit) == set(names)


def cases(unit: Unit) -> set[str]:
    """The names that a unit's main package knows."""
    return set(
        re.findall(r'^\tcase "([a-z-]+)":', (unit.sources / "main.go").read_text(encoding="utf-8"), re.MULTILINE)
    )


def test_an_older_libseccomp_is_told_the_newer_architectures(tmp_path: Path) -> None:
    """Names that the header lacks are defined for the compiler; the library is found now and when runc runs."""
    header = tmp_path / "include" / "seccomp.h"
    header.parent.mkdir()
    header.write_text("#define SCMP_ARCH_SH\tAUDIT_ARCH_SH\n", encoding="utf-8")
    library = Libseccomp(include=header.parent, library=tmp_path / "lib/libseccomp.so.2")
    environment = library.environment(runtime_folder=Path("/final/lib"))
    flags = environment["CGO_CFLAGS"].split()
    assert "-DSCMP_ARCH_M68K=0x00000004U" in flags
    assert not [flag for flag in flags if flag.startswith("-DSCMP_ARCH_SH=")]
    assert environment["CGO_LDFLAGS"] == f"-L{tmp_path}/lib -lseccomp -Wl,-rpath,/final/lib"
