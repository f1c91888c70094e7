"""What refusals of the API server become."""

import datetime as dt
import email.utils

import pytest

from hami_dra.core.errors import ApiUnavailable, Conflict, Forbidden, Gone, Invalid, KubeError, NotFound
from hami_dra.kube.status import kube_error, retry_after_s


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (405, KubeError),
        (409, Conflict),
        (410, Gone),
        (415, Invalid),
        (422, Invalid),
        (429, ApiUnavailable),
        (500, ApiUnavailable),
        (503, ApiUnavailable),
    ],
)
def test_each_code_has_its_error(code: int, kind: type[KubeError]) -> None:
    """Callers tell by the type whether to retry, list again, or give up."""
    assert type(kube_error("GET /x", code=code, status={})) is kind


def test_an_object_that_is_gone_is_told_from_an_api_that_is_not_served() -> None:
    """Only the first says anything about the object: a server without the API has a 404 for all of them."""
    gone = kube_error("GET /x", code=404, status={"reason": "NotFound", "details": {"name": "x", "kind": "things"}})
    unserved = kube_error("GET /x", code=404, status={"reason": "NotFound", "details": {}})
    page = kube_error("GET /x", code=404, status={"message": "404 page not found"})
    assert [error.of_object for error in (gone, unserved, page) if isinstance(error, NotFound)] == [True, False, False]


def test_the_message_says_what_was_asked_and_what_the_server_said() -> None:
    """A log line is enough to know the request, the code, the server's reason and its words."""
    error = kube_error(
        "PUT /slices/a", code=409, status={"reason": "Conflict", "message": "the object has been modified"}
    )
    assert str(error) == "PUT /slices/a: 409 Conflict: the object has been modified"


def test_retry_after_is_understood_in_all_its_forms() -> None:
    """Seconds, a date, the details of the Status; nonsense counts as nothing."""
    soon = dt.datetime.now(tz=dt.UTC) + dt.timedelta(seconds=30)
    assert retry_after_s({"retry-after": "7"}, {}) == 7.0
    assert 25 < (retry_after_s({"Retry-After": email.utils.format_datetime(soon, usegmt=True)}, {}) or 0) <= 30
    assert 25 < (retry_after_s({"Retry-After": soon.strftime("%a, %d %b %Y %H:%M:%S -0000")}, {}) or 0) <= 30
    assert retry_after_s({"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, {}) == 60.0
    assert retry_after_s({"Retry-After": "soon"}, {}) is None
    assert retry_after_s({}, {"details": {"retryAfterSeconds": 3}}) == 3.0
    assert retry_after_s({}, {"details": "none"}) is None
    error = kube_error("GET /x", code=429, status={}, headers={"Retry-After": "2"})
    assert isinstance(error, ApiUnavailable)
    assert error.retry_after_s == 2.0
