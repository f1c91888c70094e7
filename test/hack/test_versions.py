"""The table of versions, from records that somebody made up."""

from pathlib import Path

import pytest

from hacklib.ui import HackError
from hacklib.versions import Capability, configuration
from hacklib.versions.page import PROMISES, versions_page
from hacklib.versions.record import LEFT_OUT, PASSED, Record, load, save

LOST = "a card that is lost"
WITHDRAWN = "test_fixed_shares.py::test_a_card_that_is_lost_is_withdrawn"
MODULES = ["test_fixed_shares.py", "test_new.py", "test_shares.py", "test_top.py"]
NEEDS = "test_shares.py::test_that_needs_more"
REASON = "the API server drops devices[].taints (gate DRADeviceTaints)"


def _records() -> dict[str, Record]:
    dropped = {capability.name.lower(): REASON for capability in Capability}
    return {
        "1.34": Record(
            release="1.34.4",
            missing=dropped,
            layouts={"Shares": "`FixedShares`: 20 devices a card"},
            tests={WITHDRAWN: PASSED, NEEDS: LEFT_OUT + REASON, "test_top.py::test_it": PASSED},
        ),
        "1.36": Record(
            release="1.36.3",
            missing=dict.fromkeys(dropped, ""),
            layouts={"Shares": "`Shares`: 1 device a card, each for many claims"},
            tests={NEEDS: PASSED, WITHDRAWN: "failed"},
        ),
    }


def _row(page: str, title: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {title}")]
    return line.strip("| ").split(" | ")[1:]


def test_the_table_says_what_each_configuration_has() -> None:
    """Capabilities as probed, layouts as published, promises by the test that passed, and counts of tests with what failed."""
    page = versions_page(_records(), modules=MODULES)
    assert "| 1.34.4 | 1.36.3 |" in page
    assert _row(page, str(Capability.TAINTS)) == ["no", "yes"]
    assert _row(page, "mode `Shares`") == [
        "`FixedShares`: 20 devices a card",
        "`Shares`: 1 device a card, each for many claims",
    ]
    assert _row(page, "`test_top.py`") == ["1", "not run"]
    assert _row(page, "`test_new.py`") == ["not run", "not run"]
    assert _row(page, LOST) == [PROMISES[LOST][WITHDRAWN], "-"]
    assert _row(page, "`test_shares.py`") == ["0, 1 -", "1"]
    assert _row(page, "all") == ["2, 1 -", "1, **1 failed**, 1 not run"]


def test_the_table_says_why_tests_do_not_apply() -> None:
    """Each reason once, with the configurations and the tests that it holds for."""
    lines = versions_page(_records(), modules=MODULES).splitlines()
    place = lines.index(f"- **{REASON}**")
    assert lines[place + 1] == "  - on 1.34: `test_that_needs_more`"


def test_records_outlive_their_file(tmp_path: Path) -> None:
    """What was saved is loaded, older versions first; before the first run there is nothing."""
    (tmp_path / "test" / "e2e").mkdir(parents=True)
    assert load(tmp_path) == {}
    save(tmp_path, dict(reversed(_records().items())))
    assert load(tmp_path) == _records()
    assert list(load(tmp_path)) == ["1.34", "1.36"]


def test_an_unknown_configuration_is_named_with_those_that_there_are() -> None:
    """Whoever mistypes one is told the right ones."""
    with pytest.raises(HackError, match=r"'1\.33' is unknown; there are 1\.34, "):
        configuration("1.33")
