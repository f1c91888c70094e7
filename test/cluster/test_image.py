"""Image archives: their format, their contents, and the lists that the Dockerfile shares."""

import hashlib
import io
import json
import re
import sys
import tarfile
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from packaging.requirements import Requirement

from hacklib import image, paths
from hacklib.image import libraries, oci, python_files, recipes
from hacklib.image.oci import Config
from hacklib.image.tree import Tree
from hacklib.ui import HackError

DOCKERFILE = (recipes.CONTAINER / "Dockerfile").read_text(encoding="utf-8")
CONFIG = Config(entrypoint=["/run-me"], environment={"B": "2", "A": "1"}, user="7:7")


def small_tree(source: Path) -> Tree:
    """One of each kind of entry."""
    tree = Tree()
    tree.text("/etc/hello", "hello\n")
    tree.file("usr/bin/tool", source)
    tree.link("/bin", target="usr/bin")
    tree.folder("/tmp", mode=0o1777)
    return tree


def packed(folder: Path) -> Path:
    """An archive of `small_tree`."""
    source = folder / "tool"
    source.write_bytes(b"#!/bin/sh\n")
    source.chmod(0o700)
    oci.write(folder / "image.tar", reference="x/y:1", tree=small_tree(source), config=CONFIG)
    return folder / "image.tar"


def read(archive: Path) -> dict[str, bytes]:
    """The files of an archive."""
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]  # plain files only


def follow(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """What a descriptor points at, after its digest and size were checked."""
    data = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor["digest"]
    assert len(data) == descriptor["size"]
    return data


def test_an_archive_is_a_chain_of_digests_from_index_to_layer(tmp_path: Path) -> None:
    """Whatever an importer follows is there, has the size and digest promised, and says what the recipe said."""
    files = read(packed(tmp_path))
    (described,) = json.loads(files["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "docker.io/x/y:1"
    manifest = json.loads(follow(files, described))
    config = json.loads(follow(files, manifest["config"]))
    assert config["config"]["Entrypoint"] == ["/run-me"]
    assert config["config"]["Env"] == ["A=1", "B=2"]
    assert config["config"]["User"] == "7:7"
    (layer,) = manifest["layers"]
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    with tarfile.open(fileobj=io.BytesIO(follow(files, layer))) as tar:
        members = {member.name: member for member in tar}
    assert list(members) == sorted(members)
    assert {(m.uid, m.gid, m.mtime) for m in members.values()} == {(0, 0, 0)}
    assert oct(members["usr/bin/tool"].mode) == oct(0o755)
    assert oct(members["tmp"].mode) == oct(0o1777)
    assert members["usr"].isdir()
    assert members["bin"].linkname == "usr/bin"


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """An archive depends on names, contents and modes alone."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert packed(tmp_path / "a").read_bytes() == packed(tmp_path / "b").read_bytes()


def test_a_failed_build_leaves_no_archive(tmp_path: Path) -> None:
    """A half-written archive is never found by the next build."""
    tree = Tree()
    gone = tmp_path / "gone"
    gone.write_text("")
    tree.file("/gone", gone)
    gone.unlink()
    with pytest.raises(FileNotFoundError):
        oci.write(tmp_path / "out/image.tar", reference="x:1", tree=tree, config=CONFIG)
    assert list((tmp_path / "out").iterdir()) == []


def test_two_sources_for_one_name_are_an_error() -> None:
    """A recipe that contradicts itself is told, one that repeats itself is not."""
    tree = Tree()
    tree.text("/a", "1")
    tree.text("a", "1")
    with pytest.raises(ValueError, match="two sources for /a"):
        tree.text("/a", "2")


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("pause:1", "docker.io/library/pause:1"),
        ("me/pause:1", "docker.io/me/pause:1"),
        ("ghcr.io/me/pause:1", "ghcr.io/me/pause:1"),
        ("localhost:5000/pause:1", "localhost:5000/pause:1"),
    ],
)
def test_names_are_what_containerd_makes_of_them(short: str, whole: str) -> None:
    """A pod that says `pause:1` finds the image."""
    assert oci.qualified(short) == whole


def test_ldd_is_understood() -> None:
    """Found, missing, the loader itself, and what is no file at all."""
    found, missing = libraries.parse_ldd(
        "/a/x.so:\n"
        "\tlinux-vdso.so.1 (0x00007f)\n"
        "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n"
        "/b/y.so:\n"
        "\tlibtbb.so.12 => not found\n"
        "\tstatically linked\n"
    )
    assert found == {
        "libc.so.6": Path("/lib/x86_64-linux-gnu/libc.so.6"),
        "/lib64/ld-linux-x86-64.so.2": Path("/lib64/ld-linux-x86-64.so.2"),
    }
    assert missing == {"/b/y.so": ["libtbb.so.12"]}


def test_the_closure_of_a_wheel_has_what_it_requires() -> None:
    """Requirements of requirements come along, development tools do not."""
    names = {distribution.name.lower() for distribution in python_files.closure(recipes.listed("product"))}
    assert {"pydantic", "pydantic-core", "grpcio", "kubernetes", "urllib3"} <= {
        name.replace("_", "-") for name in names
    }
    assert not {"pytest", "mypy", "pip", "ziglang", "cmake", "cryptography"} & names


def test_a_wheel_that_is_not_there_is_named() -> None:
    """The message says what is missing and how to get it."""
    with pytest.raises(HackError, match=r"no-such-wheel is not installed.*bootstrap"):
        python_files.closure(["no-such-wheel"])
    with pytest.raises(HackError, match=r"packaging>=999 is asked for"):
        python_files.closure(["packaging>=999"])


def test_the_product_needs_a_guard_library(tmp_path: Path) -> None:
    """Without the library there is no product image, and the message says how to build it."""
    with pytest.raises(HackError, match="hack/native build"):
        recipes.product(guard=tmp_path / "none.so")


def test_the_product_image_holds_no_tools_and_no_tests(tmp_path: Path) -> None:
    """No compiler, no package manager, no test: only what runs, compiled beforehand."""
    guard = tmp_path / "libhami_guard.so"
    guard.write_bytes(Path(sys.executable).resolve().read_bytes())
    names = [PurePosixPath(name) for name in recipes.product(guard=guard).assemble()]
    parts = {part for name in names for part in name.parts}
    assert not parts & {"pip", "ensurepip", "test", "tests", "pytest", "ziglang", "gcc", "cc", "sh", "idlelib"}
    assert not parts & set(recipes.listed("left-out"))
    assert {PurePosixPath("usr/local/bin/hami-dra"), PurePosixPath(recipes.GUARD.lstrip("/"))} <= set(names)
    assert PurePosixPath("opt/hami-dra/python/hami_dra/cli.py") in names
    compiled = {name for name in names if name.suffix == ".pyc"}
    sources = {name for name in names if name.suffix == ".py"}
    assert len(compiled) > 0.99 * len(sources)


def test_the_product_list_is_the_projects_dependencies() -> None:
    """What pip installs with the wheel is what the image has."""
    project = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(recipes.listed("product")) == sorted(project["dependencies"])


def test_the_workload_list_is_part_of_what_tests_use() -> None:
    """The clients in the workload image are those that the native tests run with."""
    project = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["dev"]}
    assert set(recipes.listed("workload")) <= known
    assert all(Requirement(line) for line in recipes.listed("workload"))


def test_the_dockerfile_builds_the_same() -> None:
    """Lists, paths, environment, user and entry points of the Dockerfile are those of the recipes."""
    for name in ("product", "workload", "left-out"):
        assert f"/lists/{name}.txt" in DOCKERFILE
    assert recipes.GUARD in DOCKERFILE
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)$(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL))
    for name, recipe in (("workload", recipes.workload()), ("product", recipes.product(guard=Path(sys.executable)))):
        assert f"ENTRYPOINT {json.dumps(list(recipe.config.entrypoint))}" in stages[name]
        users = re.findall(r"^USER (\S+)$", stages[name], re.MULTILINE)
        assert users == ([recipe.config.user] if recipe.config.user else [])
        environment = dict(re.findall(r"([A-Z]+)=(\S+)", stages["runtime"].partition("ENV ")[2]))
        assert environment == dict(recipe.config.environment)


def test_the_version_is_the_projects() -> None:
    """Images are tagged with what pyproject.toml says."""
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", image.version())
