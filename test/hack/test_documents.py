"""What docs/ says of tests is true: a test that is named there exists, and the table of versions is about the tests of today."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacklib.paths import REPOSITORY
from hacklib.versions import CONFIGURATIONS, Capability
from hacklib.versions.configurations import MATRIX
from hacklib.versions.page import PROMISES
from hacklib.versions.record import PASSED, Record, load

SUITE = REPOSITORY / "test" / "e2e"


def _tests(path: Path) -> set[str]:
    """Names of the tests of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def _named(page: Path) -> Iterator[str]:
    """The tests and modules that a page names by their path."""
    yield from re.findall(r"`(test/[\w/]+\.py(?:::\w+)?)`", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    """Whoever renames a test renames it in the documents."""
    for name in _named(page):
        module, _, test = name.partition("::")
        path = REPOSITORY / module
        assert path.is_file(), name
        assert not test or test in _tests(path), name


def test_each_scenario_has_a_test_or_a_reason() -> None:
    """Each line of the table of scenarios ends with a test, or says why there is none."""
    lines = (REPOSITORY / "docs" / "scenarios.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    rows = [row for row in rows if row[0] not in {"scenario", "---"}]
    assert len(rows) > 50
    for row in rows:
        assert len(row) == 3, row
        assert re.match(r"`test/|does not apply: \w", row[2]), row


def test_the_records_are_of_the_tests_of_today() -> None:
    """What they tell of is still there: whoever renames a test runs it again.  New modules are rows of the page."""
    modules = {path.name: _tests(path) for path in SUITE.glob("test_*.py")}
    records = load(REPOSITORY)
    assert set(records) == set(MATRIX), "run hack/versions"
    for name, record in records.items():
        parts = [test.partition("::") for test in record.tests]
        assert [test for module, _, test in parts if test not in modules[module]] == []
        assert set(record.missing) <= {capability.name.lower() for capability in Capability}
        assert record.release == CONFIGURATIONS[name].release


def test_what_the_table_of_versions_promises_is_tested() -> None:
    """The tests that fill its rows exist."""
    for test in (test for shown in PROMISES.values() for test in shown):
        module, _, name = test.partition("::")
        assert name in _tests(SUITE / module), test


def test_a_run_of_some_modules_replaces_what_was_known_of_them() -> None:
    """A test that was renamed is not kept, and other modules are not forgotten."""
    before = Record(
        release="1", tests={"a.py::old": PASSED, "b.py::x": PASSED}, missing={"shares": ""}, layouts={"A": "a"}
    )
    newer = Record(release="2", tests={"a.py::new": "failed"}, layouts={"B": "b"})
    joined = before.joined(newer, modules=frozenset({"a.py"}))
    assert joined.tests == {"a.py::new": "failed", "b.py::x": PASSED}
    assert (joined.release, joined.missing, joined.layouts) == ("2", {"shares": ""}, {"A": "a", "B": "b"})
    assert Record.from_json(joined.as_json()) == joined
