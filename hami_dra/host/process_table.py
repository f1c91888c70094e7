"""The processes of this node as far as the watchdog needs them: whose they are, and an end to them.

A process is known by its number and the moment when it started, since numbers are used again.  Needs the pid namespace of the
host, and CAP_KILL to end processes of other users.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from hami_dra.core.cgroups import pod_uid
from hami_dra.core.errors import NodeStateError

__all__ = ["ProcessTable"]


class ProcessTable:
    """Processes by number."""

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        """`proc` is where procfs is mounted."""
        self._proc = proc

    def pod_uid(self, pid: int) -> str | None:
        """UID of the process's pod, by its cgroup; None where it is in none, or has ended."""
        try:
            return pod_uid((self._proc / str(pid) / "cgroup").read_text(errors="replace"))
        except OSError:
            return None

    def kill(self, pid: int, *, still: Callable[[int], bool]) -> bool:
        """End a process, if it is `still` the one that is meant; says whether it was sent SIGKILL.

        The check comes after the process was pinned: whatever has its number later is never hit.

        Raises:
            NodeStateError: not permitted.
        """
        try:
            pinned = os.pidfd_open(pid)
        except OSError:  # it has ended
            return False
        try:
            if not still(pid):
                return False
            signal.pidfd_send_signal(pinned, signal.SIGKILL)
        except ProcessLookupError:
            return False
        except PermissionError as error:
            raise NodeStateError(
                f"cannot stop process {pid}: not permitted; the watchdog's policy Stop needs CAP_KILL in the host's pid namespace"
            ) from error
        finally:
            os.close(pinned)
        return True
