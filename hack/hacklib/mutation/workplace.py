"""A copy of the tree to mutate, outside of it: mutmut works below its current directory and leaves much there."""

import shutil
import subprocess
from pathlib import Path

from hacklib.paths import REPOSITORY, cache_dir

__all__ = ["refresh"]


def refresh() -> Path:
    """Bring the copy up to date and give its directory; results of what did not change are kept."""
    copy = cache_dir() / "mutation"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()}
    for path in [path for path in copy.rglob("*") if path.is_file() and "mutants" not in path.relative_to(copy).parts]:
        if str(path.relative_to(copy)) not in wanted:
            path.unlink()
    for name in sorted(wanted):
        source, target = REPOSITORY / name, copy / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return copy
