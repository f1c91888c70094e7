"""Composition root of `hami-dra mps`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hami_dra.host.files import make_directory
from hami_dra.host.mps_dir import MpsDirectory
from hami_dra.node.mps_keeper import MpsKeeper
from hami_dra.vendors.nvidia import MpsPrograms, Root

if TYPE_CHECKING:
    from pathlib import Path

    from hami_dra._lib.threads import Group

__all__ = ["MpsOptions", "start_mps"]

_SHM_MODE = 0o1777


@dataclass(frozen=True, slots=True, kw_only=True)
class MpsOptions:
    """What the command line says."""

    state_dir: Path
    driver_root: Path
    shm: Path


def start_mps(group: Group, options: MpsOptions) -> None:
    """Keep the daemons that the node plugin asks for.

    Raises:
        NodeStateError: the directory for shared memory cannot be opened to clients.
    """
    make_directory(options.shm, mode=_SHM_MODE)
    files = MpsDirectory(options.state_dir / "mps")
    keeper = MpsKeeper(files=files, starter=MpsPrograms(Root(path=options.driver_root)), group=group)
    group.spawn("keeper", keeper.run)
