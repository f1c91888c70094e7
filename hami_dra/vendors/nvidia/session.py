"""The session with NVML, which several threads use and one of them renews.

NVML itself minds no threads; what must not happen is an end of the session while another thread is in a call.  Cards that came
or went are seen by a new session only, so there is one for all of the process.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

from hami_dra.core.errors import DriverError
from hami_dra.vendors.nvidia.library import Nvml

__all__ = ["Session"]


class Session:
    """Opened by whoever needs it first, closed when nobody is in it."""

    def __init__(self, open_library: Callable[[], Nvml]) -> None:
        """`open_library` opens a session; raises DriverError where that does not work (yet)."""
        self._open_library = open_library
        self._changed = threading.Condition()
        self._nvml: Nvml | None = None
        self._users = 0
        self._closing = False
        self._callbacks: list[Callable[[], None]] = []

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have `callback` called before a session ends, while nobody else uses it."""
        self._callbacks.append(callback)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Nvml]:
        """The session, opened where it is not; it stays open inside the block, in which `close` must not be called.

        Raises:
            DriverError: it cannot be opened.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._closing)
            if self._nvml is None:
                self._nvml = self._open_library()
            nvml = self._nvml
            self._users += 1
        try:
            yield nvml
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def joined(self) -> Iterator[Nvml | None]:
        """The same if it is open, else None."""
        with self._changed:
            is_open = self._nvml is not None and not self._closing
        if not is_open:
            yield None
            return
        with self.opened() as nvml:
            yield nvml

    def close(self) -> None:
        """End the session as soon as nobody is in it; the next that needs one opens another."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closing)
            self._closing = True
            self._changed.wait_for(lambda: self._users == 0)
            try:
                for callback in self._callbacks:
                    callback()
                nvml, self._nvml = self._nvml, None
                if nvml is not None:
                    with contextlib.suppress(DriverError):
                        nvml.close()
            finally:
                self._closing = False
                self._changed.notify_all()
