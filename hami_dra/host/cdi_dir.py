"""The CDI directory: one spec file for each prepared claim.

What a spec says is for `core.cdi`.  Files of other vendors in the same directory are never touched: ours are named
`gpu.hami.io-claim_<claimUID>.json`.  The runtime notices renames within the directory (inotify), so that is how they come.
"""

import json
import os
from pathlib import Path

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.api.k8s import JsonObject
from hami_dra.api.names import CDI_KIND
from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import ClaimUid
from hami_dra.host.files import Remains, make_directory, node_state_error, remove_file, write_atomic

__all__ = ["CdiDirectory"]

_PREFIX = CDI_KIND.replace("/", "-") + "_"
_SUFFIX = ".json"
_PROBE = f".{_PREFIX}probe"


class CdiDirectory:
    """Spec files below one directory."""

    def __init__(self, path: Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """`path` as this process sees it; the runtime must watch the same directory."""
        self._path = path
        self._remains = Remains(clock=clock)

    def check(self) -> None:
        """Make the directory if it lacks and see that it can be written.

        Raises:
            NodeStateError: it cannot, with what to do about it.
        """
        if not self._path.is_dir():
            make_directory(self._path, mode=0o755)
        probe = self._path / _PROBE
        try:
            write_atomic(probe, b"", mode=0o600)
        except NodeStateError as error:
            raise NodeStateError(
                f"the CDI directory cannot be written, so no claim can be prepared: {error}"
            ) from error
        remove_file(probe)

    def write(self, uid: ClaimUid, spec: JsonObject) -> None:
        """Write the claim's spec, unless the file says the same already.

        Raises:
            NodeStateError: it could not be written.
        """
        data = json.dumps(spec, separators=(",", ":")).encode()
        path = self._file(uid)
        if not self._path.is_dir():
            make_directory(self._path, mode=0o755)
        try:
            if path.read_bytes() == data:
                return
        except FileNotFoundError:
            pass
        except OSError as error:
            raise node_state_error("read a CDI file", path, error) from error
        write_atomic(path, data, mode=0o644)

    def remove(self, uid: ClaimUid) -> None:
        """Remove the claim's spec; none is no error.

        Raises:
            NodeStateError: it is still there.
        """
        remove_file(self._file(uid))

    def uids(self) -> set[ClaimUid]:
        """The claims that have a spec here.

        Raises:
            NodeStateError: the directory cannot be read; one that is missing is empty.
        """
        return {
            ClaimUid(name[len(_PREFIX) : -len(_SUFFIX)])
            for name in self._names()
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
        }

    def sweep(self) -> None:
        """Remove what killed writers left, a minute after a look first saw it.

        Raises:
            NodeStateError: something is still there.
        """
        ours = [self._path / name for name in self._names() if name.startswith(f".{_PREFIX}")]
        for path in self._remains.among(ours):
            remove_file(path)

    def _file(self, uid: ClaimUid) -> Path:
        return self._path / f"{_PREFIX}{uid}{_SUFFIX}"

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._path))  # noqa: PTH208 - names are all that is needed
        except FileNotFoundError:
            return []
        except OSError as error:
            raise node_state_error("read the CDI directory", self._path, error) from error
