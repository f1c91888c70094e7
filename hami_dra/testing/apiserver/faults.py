"""What can go wrong between a client and the fake API server, on command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hami_dra.core.errors import ApiUnavailable
from hami_dra.kube.status import kube_error

if TYPE_CHECKING:
    import threading

    from hami_dra._lib.clock import Clock

__all__ = ["RESET", "Faults"]

RESET = 0
"""In place of an HTTP status: the connection is reset before an answer comes."""


@dataclass(slots=True)
class _Fault:
    left: int
    status: int
    method: str
    path_contains: str
    retry_after_s: int | None
    message: str


class Faults:
    """The faults that are waiting for requests."""

    def __init__(self) -> None:
        self._waiting: list[_Fault] = []
        self.out = False
        """Nothing listens."""
        self.delay_s = 0.0
        """How long every request takes."""

    def fail_next(
        self,
        count: int,
        status: int,
        *,
        method: str = "",
        path_contains: str = "",
        retry_after_s: int | None = None,
        message: str = "a fault of the fake API server",
    ) -> None:
        """Refuse the next `count` requests that match; see `FakeApiServer.fail_next`."""
        self._waiting.append(_Fault(count, status, method, path_contains, retry_after_s, message))

    def meet(self, method: str, path: str, *, condition: threading.Condition, clock: Clock) -> None:
        """Let one request meet its fate; `condition` is held."""
        if self.out:
            raise ApiUnavailable(f"{method} {path}: connection refused")
        arrived = clock.monotonic()
        while (left_s := arrived + self.delay_s - clock.monotonic()) > 0:
            clock.wait(condition, left_s)
        for fault in self._waiting:
            if fault.method in {"", method} and fault.path_contains in path:
                fault.left -= 1
                if fault.left == 0:
                    self._waiting.remove(fault)
                if fault.status == RESET:
                    raise ApiUnavailable(f"{method} {path}: connection reset by peer")
                headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
                status = {"kind": "Status", "reason": "InjectedFault", "message": fault.message}
                raise kube_error(f"{method} {path}", code=fault.status, status=status, headers=headers)
