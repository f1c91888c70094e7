"""Where things lie: the repository and the cache directory outside of it.

Everything that the tools build or download lives below one directory, so that the tree stays clean and deleting one
folder undoes it all. Who makes a folder there says what is in it; this module only knows the names.
"""

import os
from pathlib import Path

__all__ = [
    "CACHE_VARIABLE",
    "REPOSITORY",
    "binaries_dir",
    "cache_dir",
    "clusters_dir",
    "go_dir",
    "images_dir",
    "native_dir",
    "venv_dir",
    "worlds_dir",
]

CACHE_VARIABLE = "HAMI_DRA_CACHE"
REPOSITORY = Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """The cache directory: `$HAMI_DRA_CACHE`, else `hami-dra` in `$XDG_CACHE_HOME` or `~/.cache`.  It need not exist."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hami-dra"


def venv_dir() -> Path:
    """The virtual environment that `hack/bootstrap` makes."""
    return cache_dir() / "venv"


def binaries_dir() -> Path:
    """Programs built from Go modules, one folder for each hash of a recipe."""
    return cache_dir() / "binaries"


def go_dir() -> Path:
    """Go's module and build caches, apart from the user's own."""
    return cache_dir() / "go"


def native_dir() -> Path:
    """C libraries, one folder for each CMake preset."""
    return cache_dir() / "native"


def images_dir() -> Path:
    """OCI archives, one for each hash of their inputs."""
    return cache_dir() / "images"


def clusters_dir() -> Path:
    """State of the running clusters, one folder for each name."""
    return cache_dir() / "clusters"


def worlds_dir() -> Path:
    """Unpacked packages of other C libraries and architectures, one folder for each set of them."""
    return cache_dir() / "worlds"
