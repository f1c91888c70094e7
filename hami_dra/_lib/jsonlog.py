"""Logs as one JSON object a line.

A formatter for the standard library's logging: fields given by `extra=` become members of the object, beside `time`,
`level`, `logger`, `message`, `thread` and, for exceptions, `error` and `traceback`.  What is logged is left to the
callers.  Invariant: every record gives exactly one line of valid JSON, whatever its fields hold.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["JsonFormatter", "configure"]

# What logging itself puts on a record; everything else came by `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for `record`, without its end."""
        moment = dt.datetime.fromtimestamp(record.created, tz=dt.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "thread": record.threadName,
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _OWN and key not in line)
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return _dumps(line)
        except ValueError:  # NaN, infinity or a circular structure among the fields
            return _dumps({key: str(value) for key, value in line.items()})


def _dumps(line: dict[str, Any]) -> str:
    # ASCII only: a lone surrogate in a file name must not make the stream raise.
    return json.dumps(line, default=str, separators=(",", ":"), skipkeys=True, allow_nan=False)


def configure(*, level: str, stream: TextIO) -> None:
    """Send what all loggers say at `level` (`debug` ... `error`) or above to `stream`, replacing what was set up before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
