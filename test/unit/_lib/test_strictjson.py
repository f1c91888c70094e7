"""JSON that remembers duplicates."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra._lib.strictjson import DuplicateKeys, find_duplicate, loads

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_JSON)
def test_without_duplicates_it_is_json(value: object) -> None:
    """Same values, plain dicts, nothing found."""
    parsed = loads(json.dumps(value))
    assert parsed == value
    assert find_duplicate(parsed) is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a":1,"b":2,"a":3}', "a"),
        ('{"x":[0,{"y":{"k":1,"k":1}}]}', "x.1.y.k"),
        ('[{"a":{}},{"a":1,"a":2,"a":3}]', "1.a"),
    ],
)
def test_a_duplicate_is_found_where_it_is(text: str, path: str) -> None:
    """The path leads to the key, and the last value has won."""
    assert find_duplicate(loads(text)) == path


def test_the_marked_object_is_still_a_dict() -> None:
    """Whoever does not care sees what json would give."""
    parsed = loads('{"a":1,"a":2}')
    assert parsed == {"a": 2}
    assert isinstance(parsed, DuplicateKeys)


@pytest.mark.parametrize("text", ["", "{", "nul", b"\xff\xfe\xfd", "[" * 100_000])
def test_other_texts_are_refused(text: str | bytes) -> None:
    """As json does, with ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        loads(text)
