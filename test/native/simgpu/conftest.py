"""Builds the simulated GPU once, and makes nodes for the tests."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from native.simgpu.node import Node

from hacklib.native import Preset, build
from hacklib.ui import Ui

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here as needing the built libraries."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.native)


@pytest.fixture(scope="session")
def simgpu() -> Path:
    """Where the release build of the simulated GPU lies."""
    return build(preset="release", ui=Ui(), targets=["simgpu"]) / "simgpu"


@pytest.fixture(scope="session")
def sanitized() -> Callable[[Preset], Path]:
    """Where a build with sanitizers lies; skips where the compiler of one is not to be had."""

    def built(preset: Preset) -> Path:
        if preset == "tsan" and not any(map(shutil.which, ("clang", "gcc", "cc"))):
            pytest.skip("ThreadSanitizer needs the host's clang or gcc")
        return build(preset=preset, ui=Ui(), targets=["simgpu"]) / "simgpu"

    return built


@pytest.fixture
def make_node(simgpu: Path, tmp_path: Path) -> Callable[..., Node]:
    """Make a driver root by `simctl create` with the given arguments."""

    def make(*arguments: str, build: Path | None = None) -> Node:
        node = Node(root=tmp_path / "node", build=build or simgpu)
        created = node.create(*(arguments or ("--model", "A100")))
        assert created.status == 0, created.err
        return node

    return make


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A node with two A100 cards."""
    return make_node("--model", "A100", "--count", "2")
