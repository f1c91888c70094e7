"""Logs as JSON."""

import io
import json
import logging
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hami_dra._lib.jsonlog import JsonFormatter, configure


def _record(message: str = "hello", *args: object, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("hami_dra.node", logging.WARNING, __file__, 1, message, args, None)
    vars(record).update(extra)
    return record


def _formatted(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    value: dict[str, Any] = json.loads(line, parse_constant=lambda _: (_ for _ in ()).throw(ValueError))
    return value


def test_extra_fields_are_members_of_the_object() -> None:
    """What a caller gives by extra= can be searched for by its name."""
    line = _formatted(_record("prepared %s", "claim", claim="ml/train", seconds=0.5))
    assert line["message"] == "prepared claim"
    assert (line["claim"], line["seconds"], line["level"], line["logger"]) == (
        "ml/train",
        0.5,
        "warning",
        "hami_dra.node",
    )
    assert line["time"].endswith("Z")


def test_an_exception_is_one_line() -> None:
    """The error and its traceback are members, not lines of their own."""
    record = _record()
    try:
        int("two\nlines")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = _formatted(record)
    assert line["error"] == "ValueError: invalid literal for int() with base 10: 'two\\nlines'"
    assert "test_jsonlog" in line["traceback"]


def test_the_own_members_cannot_be_replaced() -> None:
    """A field that is called `time` does not hide when the line was written."""
    assert _formatted(_record(time="never"))["time"] != "never"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(value=_json)
def test_every_record_is_one_line_of_valid_json(value: object) -> None:
    """Whatever a field holds: NaN, bytes, line ends, lone surrogates."""
    assert "field" in _formatted(_record(field=value))


def test_a_circular_field_does_not_break_the_log() -> None:
    """A structure that holds itself is written as text."""
    loop: list[object] = []
    loop.append(loop)
    assert isinstance(_formatted(_record(loop=loop))["loop"], str)


def test_configure_sends_everything_of_a_level_to_the_stream() -> None:
    """One call sets up the root logger; what is below the level is not written."""
    before, level = logging.root.handlers[:], logging.root.level
    stream = io.StringIO()
    try:
        configure(level="info", stream=stream)
        logging.getLogger("hami_dra.x").info("seen", extra={"a": 1})
        logging.getLogger("hami_dra.x").debug("unseen")
    finally:
        logging.basicConfig(handlers=before, level=level, force=True)
    assert [json.loads(line)["a"] for line in stream.getvalue().splitlines()] == [1]
