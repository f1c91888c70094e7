"""The tree of errors."""

import re

from hami_dra.core import errors


def test_the_docstring_draws_the_tree() -> None:
    """What the module says of itself is what it defines: same names, same parents."""
    drawn: dict[str, str | None] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        if (match := re.match(r"(?P<indent>[ │├└─]+)(?P<name>[A-Z]\w+)(?:  .*)?$", line)) and match[
            "name"
        ] in errors.__all__:
            depth = len(match["indent"])
            stack = [entry for entry in stack if entry[0] < depth]
            drawn[match["name"]] = stack[-1][1] if stack else None
            stack.append((depth, match["name"]))
    defined = {name: getattr(errors, name).__base__.__name__ for name in errors.__all__ if name != "HamiDraError"}
    assert drawn == {"HamiDraError": None} | defined


def test_reasons_are_camel_case() -> None:
    """They go into Events, conditions and metrics as they are."""
    for name in errors.__all__:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", getattr(errors, name).reason)


def test_an_explanation_ends_with_its_reason() -> None:
    """The same words everywhere."""
    assert errors.CapacityExceeded("card is full").explain() == "card is full (CapacityExceeded)"
    assert errors.ApiUnavailable("busy", retry_after_s=2.5).retry_after_s == 2.5
