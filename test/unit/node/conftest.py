"""A node for the tests of its state."""

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
