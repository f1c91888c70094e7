"""A node for the tests of its state."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A node with one A100."""
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Log lines are made in production too: one that cannot be made must fail a test."""
    caplog.set_level(logging.DEBUG, logger="hami_dra")
