"""The guard's parsers hold on inputs that nobody thought of."""

import pytest

from hacklib.native.fuzz import TARGETS, fuzz
from hacklib.ui import Ui

pytestmark = pytest.mark.native


@pytest.mark.usefixtures("host_cc")
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_a_parser(target: str) -> None:
    """A short run, the same each time, under the sanitizers; `hack/native fuzz --seconds N` is the long one."""
    result = fuzz(target, seconds=4, seed=1, ui=Ui())
    assert result.failure is None, f"{result.failure}\nthe input lies in {result.directory}"
    assert "places" in result.said or "stat::" in result.said
