"""Unpacks Debian packages below the cache, without installing anything: the host's own suites, or a pinned older one.

Packages of the host's suites are whatever apt trusts there; those of another suite, whose keys a host need not have, are known
by their hashes.
"""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hacklib.paths import worlds_dir
from hacklib.ui import HackError, Ui

__all__ = ["Suite", "unpacked"]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Packages of a distribution that the host need not be."""

    source: str
    """The line of a sources.list behind `deb`, without options."""
    architecture: str
    packages: Mapping[str, str]
    """SHA-256 of the .deb, by package name."""


def unpacked(name: str, packages: Sequence[str] | Suite, *, ui: Ui) -> Path:
    """The folder that holds the packages' files, filled at the first call; nobody writes to it afterwards.

    Raises HackError when there is no apt, when a package cannot be downloaded, or when it is not the expected one.
    """
    wanted = repr(packages) if isinstance(packages, Suite) else repr(tuple(packages))
    target = worlds_dir() / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if target.is_dir():
        return target
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise HackError(f"{name} is made of Debian packages: it needs apt-get and dpkg-deb, which this host lacks")
    target.parent.mkdir(parents=True, exist_ok=True)
    with ui.task(name), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch)
        for deb in _download(folder, packages):
            _run(["dpkg-deb", "--extract", deb, folder / "root"], what=f"{deb.name} cannot be unpacked")
        try:
            (folder / "root").rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _download(folder: Path, packages: Sequence[str] | Suite) -> list[Path]:
    options = ["-o", "APT::Sandbox::User=root"]
    names = packages.packages if isinstance(packages, Suite) else packages
    if isinstance(packages, Suite):
        options += _options_of(folder, packages)
        _run(["apt-get", *options, "update"], what=f"{packages.source} cannot be reached")
    download = ["apt-get", *options, "download", *names]
    done = subprocess.run(download, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and not isinstance(packages, Suite):
        _run(["apt-get", *options, "update"], what="the host's package lists cannot be updated")
        done = subprocess.run(download, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HackError(f"{', '.join(names)} cannot be downloaded by apt-get:\n{done.stderr.strip()}")
    debs = sorted(folder.glob("*.deb"))
    if isinstance(packages, Suite):
        _check(debs, packages)
    return debs


def _options_of(folder: Path, suite: Suite) -> list[str]:
    """What makes apt forget the host: its sources, its lists, its architecture and what is installed."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    # Untrusted, because the host need not have the distribution's keys: each package's hash is known.
    (folder / "sources.list").write_text(f"deb [trusted=yes] {suite.source}\n", encoding="ascii")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": suite.architecture,
        "APT::Architectures": suite.architecture,
        "Acquire::Languages": "none",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _check(debs: Sequence[Path], suite: Suite) -> None:
    found = {deb.name.partition("_")[0]: hashlib.sha256(deb.read_bytes()).hexdigest() for deb in debs}
    wrong = sorted(name for name, digest in suite.packages.items() if found.get(name) != digest)
    if wrong:
        raise HackError(f"{suite.source}: {', '.join(wrong)} are not the packages that were expected")


def _run(words: Sequence[str | Path], *, what: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HackError(f"{what}:\n{done.stderr.strip()}")
