"""Who asks what date it is: nobody who decides something by it.

A clock that jumps, by a bad battery or a good time server, must not change what a node does.  Waits, ages and deadlines are the
monotonic clock's; the date is for people, for the API server and for kubelet, which compares it with its own.
"""

import ast
from pathlib import Path

import hami_dra

DATES = {
    "_lib/clock.py": "Clock.now: the date in what is written into the API server",
    "app/doctor.py": "what is said to people",
    "host/inspect.py": "how old something looks, said to people",
    "kube/status.py": "Retry-After may be a date",
    "node/health_stream.py": "kubelet wants to know of when a health is",
}
WRITERS = {"kube/claims.py", "kube/events.py", "kube/leases.py"}
"""Who puts `Clock.now` into objects."""
FORBIDDEN = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
PACKAGE = Path(hami_dra.__file__).parent


def test_the_date_has_named_readers() -> None:
    """No module but these asks the system what date it is."""
    assert _users(FORBIDDEN) == set(DATES)


def test_no_age_is_taken_from_a_file() -> None:
    """The times of a file are the wall clock's: what is old is told by having been seen before, except to people."""
    assert _users({("status", "st_mtime"), ("stat", "st_mtime"), ("", "st_mtime")}) == {"host/inspect.py"}


def test_the_clock_of_the_house_is_asked_for_the_date_by_writers_alone() -> None:
    """Everybody else has it measure."""
    assert _users({("_clock", "now"), ("clock", "now")}) == WRITERS


def _users(attributes: set[tuple[str, str]]) -> set[str]:
    return {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if not {"testing", "_gen"} & set(path.relative_to(PACKAGE).parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and (_name(node.value), node.attr) in attributes
    }


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
