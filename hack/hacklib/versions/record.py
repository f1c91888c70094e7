"""What a run of the e2e suite on one configuration leaves behind, and the file in which the records of all are committed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hacklib.versions.configurations import MATRIX

__all__ = ["LEFT_OUT", "PASSED", "RECORDS", "Record", "load", "save"]

RECORDS = Path("test/e2e/versions.json")
"""The committed file, below the repository's root."""
LEFT_OUT = "does not apply: "
"""How the outcome of a test begins that a configuration has nothing for."""
PASSED = "passed"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One configuration."""

    release: str = ""
    """The version of Kubernetes, with its patch."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Of each capability, by the lower-case name of its member: "", or why the API server has it not."""
    layouts: Mapping[str, str] = field(default_factory=dict)
    """By the mode that was asked for, how cards are published."""
    tests: Mapping[str, str] = field(default_factory=dict)
    """Of each test, as `module.py::test`: PASSED, LEFT_OUT with the reason, or something worse."""

    def as_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {
            "release": self.release,
            "missing": dict(self.missing),
            "layouts": dict(self.layouts),
            "tests": dict(self.tests),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Record":
        """What `as_json` gave."""
        return cls(**data)

    def joined(self, newer: "Record", *, modules: frozenset[str]) -> "Record":
        """This one with the outcomes of a newer run, which replace all that is known of the modules that ran."""
        kept = {name: outcome for name, outcome in self.tests.items() if name.partition("::")[0] not in modules}
        return Record(
            release=newer.release or self.release,
            missing=dict(newer.missing or self.missing),
            layouts=dict(sorted({**self.layouts, **newer.layouts}.items())),
            tests=dict(sorted({**kept, **newer.tests}.items())),
        )


def load(root: Path) -> dict[str, Record]:
    """The committed records, by configuration."""
    path = root / RECORDS
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: Record.from_json(found[name]) for name in MATRIX if name in found}


def save(root: Path, records: Mapping[str, Record]) -> None:
    """Write them all."""
    shown = {name: records[name].as_json() for name in MATRIX if name in records}
    (root / RECORDS).write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")
