"""A container with 4 GiB of a simulated card, and the environments of the clients."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from native.clients.programs.common import SHARE
from native.guard.conftest import make_node, node, programs
from native.guard.harness import Container, Node, Programs, make_share

from hacklib.native.clients import client_python, groups
from hacklib.paths import REPOSITORY
from hacklib.ui import Ui

__all__ = ["make_node", "node", "programs"]

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def container(node: Node, programs: Programs, tmp_path: Path) -> Container:
    """A container with 4 GiB of the only card."""
    share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=SHARE)
    return Container(
        programs=programs,
        driver=node.environment,
        shares=[share.directory],
        environment={"PYTHONPATH": str(REPOSITORY / "test"), "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.fixture
def python() -> Callable[[str], Path]:
    """The Python of a group of clients; the test is skipped where the machine cannot have the group."""

    def find(name: str) -> Path:
        group = groups()[name]
        if group.lacking:
            pytest.skip(group.lacking)
        return client_python(group, ui=Ui())

    return find


@pytest.fixture
def seen_by(container: Container, python: Callable[[str], Path]) -> Callable[..., dict[str, Any]]:
    """Run a client program to its end; what it saw."""

    def run(group: str, program: str) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(container.run(python(group), PROGRAMS / f"{program}.py"))
        return seen

    return run
