"""What a refusal of the API server means in the house's own words.

Turns an HTTP status and the `Status` object of its body into one error of the `KubeError` tree.  Used by every
`Transport` and by the reflector, whose watch reports the same `Status` in the stream.
Invariant: the message names the request, the code, and what the server said about it.
"""

from __future__ import annotations

import datetime as dt
import email.utils
from typing import TYPE_CHECKING

from hami_dra.core.errors import ApiUnavailable, Conflict, Forbidden, Gone, Invalid, KubeError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hami_dra.api.k8s import JsonObject

__all__ = ["kube_error", "retry_after_s"]

_BY_CODE: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    409: Conflict,
    410: Gone,
    415: Invalid,
    422: Invalid,
}
_NOT_FOUND = 404
_TOO_MANY_REQUESTS = 429
_LATEST_S = 60.0
"""A date is by two clocks, either of which may be wrong: never stay away for longer because of one."""
_SERVER_ERROR = 500


def kube_error(what: str, *, code: int, status: JsonObject, headers: Mapping[str, str] | None = None) -> KubeError:
    """The error for a refused request.

    Args:
        what: the request, as in `PUT /apis/…`.
        code: of HTTP, or `Status.code` of a watch's ERROR event.
        status: the `Status` object; anything else is tolerated.
        headers: of the answer, for Retry-After.
    """
    said = status.get("message") or "no message"
    message = f"{what}: {code} {status.get('reason') or ''}".rstrip() + f": {said}"
    if code == _TOO_MANY_REQUESTS or code >= _SERVER_ERROR:
        return ApiUnavailable(message, retry_after_s=retry_after_s(headers or {}, status))
    if code == _NOT_FOUND:
        details = status.get("details")
        return NotFound(message, of_object=isinstance(details, dict) and bool(details.get("name")))
    return _BY_CODE.get(code, KubeError)(message)


def retry_after_s(headers: Mapping[str, str], status: JsonObject) -> float | None:
    """How long the server asked to stay away: `Retry-After` (seconds or a date), else `Status.details`."""
    header = next((value for name, value in headers.items() if name.lower() == "retry-after"), None)
    if header is not None:
        if header.isdecimal():
            return float(header)
        try:
            moment = email.utils.parsedate_to_datetime(header)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        return min(max(0.0, (moment - dt.datetime.now(tz=dt.UTC)).total_seconds()), _LATEST_S)
    details = status.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    return float(seconds) if isinstance(seconds, int) and seconds > 0 else None
