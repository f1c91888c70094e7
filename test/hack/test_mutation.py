"""What is said of the mutants."""

import json
from pathlib import Path

from hacklib.mutation import Score, scores, table


def test_mutants_are_counted_by_module_and_what_became_of_them(tmp_path: Path) -> None:
    """Time-outs count as noticed, what was not run counts for nothing, and modules without mutants are not told of."""
    core = tmp_path / "hami_dra" / "core"
    (core / "doctor").mkdir(parents=True)
    for name, statuses in (
        ("plan", [1, 1, 3, 0, -24, 33, None]),
        ("ids", []),
        ("slices", [None]),
        ("doctor/node", [1]),
    ):
        found = {f"{name}-{number}": status for number, status in enumerate(statuses)}
        (core / f"{name}.py.meta").write_text(json.dumps({"exit_code_by_key": found}))
    told = scores(tmp_path)
    assert told == {
        "doctor.node": Score(killed=1),
        "plan": Score(killed=3, timeout=1, survived=1, untested=1, not_run=1),
        "slices": Score(not_run=1),
    }
    assert told["plan"].percent == 66
    assert table(told).splitlines()[2:] == [
        "| `plan` | 66 % | 3 | 1 | 1 | 1 | 1 |",
        "| `doctor.node` | 100 % | 1 | 0 | 0 | 0 | 0 |",
        "| `slices` |  | 0 | 0 | 0 | 0 | 1 |",
        "| `all` | 71 % | 4 | 1 | 1 | 1 | 2 |",
    ]
