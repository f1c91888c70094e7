"""Share files: `claims/<claimUID>/<share>/{limits,usage}` and, beside them, what the claim was promised and what it may read.

`limits` is complete before a container can see it; what changes later is left to `host.live_shares`.  `usage` belongs to the
processes of the share, so one that exists is never touched.  `claim.json` repeats the ledger's record, so that a lost ledger
can be made again.  Modes decide, not owners, because pods run as any user: files are world-readable (usage world-writable),
directories can be entered but not listed.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from hami_dra._gen import abi
from hami_dra.core.errors import LedgerCorrupt
from hami_dra.core.ids import ClaimUid
from hami_dra.core.limits import encode
from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.core.record import Entry, Phase, from_json, to_json
from hami_dra.host.files import create_zeroed, make_directory, node_state_error, remove_tree, write_atomic

__all__ = ["ShareDirectory"]

_RECORD = "claim.json"
_DIRECTORY_MODE = 0o711
_LIMITS_MODE = 0o644
"""Writable by this program, which may have no capability that overrides modes; containers mount it read-only."""
_USAGE_MODE = 0o666
_TEXT_MODE = 0o644
_RECORD_MODE = 0o600


class ShareDirectory:
    """The directories of all claims, below one directory."""

    def __init__(self, path: Path) -> None:
        """`path` as this process sees it; it need not exist yet."""
        self._path = path

    def check(self) -> None:
        """Make the directory if it lacks.

        Raises:
            NodeStateError: it cannot be made.
        """
        make_directory(self._path, mode=_DIRECTORY_MODE)

    def ensure(self, plan: ClaimPlan, *, boot: str, texts: Mapping[str, str]) -> None:
        """Make whatever the claim's shares lack, and `texts`, which its containers may read; what is there stays as it is.

        Raises:
            NodeStateError: something could not be written.
        """
        directory = self._path / plan.uid
        make_directory(directory, mode=_DIRECTORY_MODE)
        for share in plan.shares:
            self._ensure_share(directory, share)
        for name, text in texts.items():
            if not (directory / name).exists():
                write_atomic(directory / name, text.encode(), mode=_TEXT_MODE)
        record = directory / _RECORD
        if not record.exists():
            write_atomic(record, f'{{"boot":{json.dumps(boot)},"plan":{to_json(plan)}}}'.encode(), mode=_RECORD_MODE)

    def remove(self, uid: ClaimUid) -> None:
        """Remove all files of the claim; none is no error.

        Raises:
            NodeStateError: something is still there.
        """
        remove_tree(self._path / uid)

    def uids(self) -> set[ClaimUid]:
        """The claims that have files here.

        Raises:
            NodeStateError: the directory cannot be read.
        """
        try:
            return {ClaimUid(name) for name in os.listdir(self._path)}  # noqa: PTH208 - names are all that is needed
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise node_state_error("read the directory of share files", self._path, error) from error

    def record(self, uid: ClaimUid) -> Entry | None:
        """What `claim.json` says was prepared, to make a lost row of the ledger again; None where it cannot be read."""
        try:
            record = json.loads((self._path / uid / _RECORD).read_text())
            return Entry(phase=Phase.COMPLETED, boot=str(record["boot"]), plan=from_json(json.dumps(record["plan"])))
        except (OSError, ValueError, TypeError, KeyError, LedgerCorrupt):
            return None

    def _ensure_share(self, directory: Path, share: PlannedShare) -> None:
        limits = share.limits
        if limits is None:
            return
        own = directory / share.spec.key
        make_directory(own, mode=_DIRECTORY_MODE)
        if not (own / "limits").exists():
            write_atomic(own / "limits", encode(limits), mode=_LIMITS_MODE)
        create_zeroed(own / "usage", size=abi.USAGE_FILE_SIZE, mode=_USAGE_MODE)
