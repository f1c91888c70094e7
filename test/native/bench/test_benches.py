"""The benchmarks of the guard run to their end, and what holds without a clock is looked at."""

import json
from pathlib import Path

import pytest
from bench import guard_costs, overruns

pytestmark = [pytest.mark.native, pytest.mark.timeout(300)]


def test_nothing_above_the_limit_nothing_left_behind_and_nothing_hangs(tmp_path: Path) -> None:
    """Where HAMi-core fails: 16 processes, kill -9 of half of them, an order of starts and ends, 64 starts at once."""
    file = tmp_path / "overrun.json"
    assert overruns.main(["--rounds", "1", "--json", str(file)]) == 0
    outcomes = json.loads(file.read_text())
    assert {outcome["scenario"] for outcome in outcomes} == set(overruns.SCENARIOS)
    for outcome in outcomes:
        assert [outcome[what] for what in ("above_bytes", "hung", "failed", "left_bytes")] == [0, 0, 0, 0]


def test_every_cost_has_its_figures(tmp_path: Path) -> None:
    """Each call is measured without the guard and with it."""
    file = tmp_path / "guard.json"
    assert guard_costs.main(["--rounds", "1", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["contender"] for row in rows] == ["unhooked", "guard"] * len(guard_costs.PLANS)
    assert all(row["p50"] > 0 for row in rows)
