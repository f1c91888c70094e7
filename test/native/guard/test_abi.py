"""Header, JSON, Python constants and the compiler agree about the layout of the limits and usage files."""

import json
import subprocess
from pathlib import Path

import pytest
from native.guard.conftest import compile_c

from hacklib.generate import stale, write
from hacklib.generate.abi import parse
from hacklib.paths import REPOSITORY
from hacklib.ui import HackError
from hami_dra._gen import abi as generated

HEADER = REPOSITORY / "api" / "abi" / "hami_abi.h"
PROGRAM = """
#include <stdio.h>
#include "hami_abi.h"
#define SHOW(s, name) printf("%s %s %zu %zu\\n", #s, #name, offsetof(s, name), sizeof(((s *)0)->name));
#define X(type, name, count, offset, meaning) SHOW(hami_limits, name)
int main(void) {
  HAMI_LIMITS_FIELDS(X)
#undef X
#define X(type, name, count, offset, meaning) SHOW(hami_usage_header, name)
  HAMI_USAGE_FIELDS(X)
#undef X
#define X(type, name, count, offset, meaning) SHOW(hami_usage_slot, name)
  HAMI_USAGE_SLOT_FIELDS(X)
#undef X
#define X(type, name, count, offset, meaning) SHOW(hami_usage_credit, name)
  HAMI_USAGE_CREDIT_FIELDS(X)
  printf("size limits %zu %zu\\n", sizeof(hami_limits), sizeof(hami_usage_header));
  printf("size usage %zu %zu\\n", sizeof(hami_usage), sizeof(hami_usage_slot));
  printf("size credit %zu %zu\\n", sizeof(hami_usage_credit), offsetof(hami_usage, credits));
  return 0;
}
"""


def test_generated_files_are_current() -> None:
    """The committed JSON and Python constants are what the header says."""
    assert stale(REPOSITORY, ["abi"]) == []


def test_generating_writes_what_is_stale_and_nothing_else(tmp_path: Path) -> None:
    """A second run finds nothing to do; a file that was changed by hand is written anew."""
    header = tmp_path / HEADER.relative_to(REPOSITORY)
    header.parent.mkdir(parents=True)
    header.write_text(HEADER.read_text())
    made = write(tmp_path, ["abi"])
    assert [(REPOSITORY / path).read_text() for path in made] == [(tmp_path / path).read_text() for path in made]
    assert write(tmp_path, ["abi"]) == []
    (tmp_path / made[0]).write_text("by hand")
    assert write(tmp_path, ["abi"]) == [made[0]]


@pytest.mark.native
def test_the_compiler_agrees_with_the_generated_layout(tmp_path: Path) -> None:
    """By offsetof and sizeof every field is where the JSON's and the Python constants have it."""
    source = tmp_path / "layout.c"
    source.write_text(PROGRAM)
    printed = subprocess.run(
        [compile_c(tmp_path / "layout", source)], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in printed.splitlines()]
    layout = json.loads((REPOSITORY / "api" / "abi" / "hami_abi.json").read_text())
    names = {
        "hami_limits": "limits",
        "hami_usage_header": "usage",
        "hami_usage_slot": "usage_slot",
        "hami_usage_credit": "usage_credit",
    }
    compiled = {(names[row[0]], row[1]): (int(row[2]), int(row[3])) for row in rows if row[0] in names}
    described = {
        (structure, field["name"]): (field["offset"], field["size"])
        for structure, content in layout["structures"].items()
        for field in content["fields"]
    }
    assert compiled == described
    for (structure, name), (offset, _) in described.items():
        assert getattr(generated, f"{structure}_{name}_OFFSET".upper()) == offset
    assert [row[2:] for row in rows if row[0] == "size"] == [
        [str(generated.LIMITS_SIZE), str(generated.USAGE_HEADER_SIZE)],
        [str(generated.USAGE_FILE_SIZE), str(generated.USAGE_SLOT_SIZE)],
        [str(generated.USAGE_CREDIT_SIZE), str(generated.USAGE_SIZE)],
    ]


def test_fields_do_not_overlap() -> None:
    """Each field begins at or behind the end of the one before, and the last ends within its structure."""
    for structure in parse(HEADER.read_text())["structures"].values():
        end = 0
        for field in structure["fields"]:
            assert field["offset"] >= end
            end = field["offset"] + field["size"]
        assert end <= structure["size"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("X(uint32_t, qos,", "X(float, qos,", "unknown type"),
        ("#define HAMI_USAGE_FIELDS", "#define HAMI_OTHER_FIELDS", "no HAMI_USAGE_FIELDS"),
        ("#define HAMI_LIMITS_SIZE 4096u", "#define HAMI_LIMITS_SIZE SOMETHING", "cannot read"),
    ],
)
def test_a_header_that_is_not_understood_is_an_error(old: str, new: str, said: str) -> None:
    """The generator says what it cannot read instead of leaving it out."""
    with pytest.raises(HackError, match=said):
        parse(HEADER.read_text().replace(old, new))
