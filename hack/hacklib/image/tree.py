"""The files of an image before they are packed: names in the image, and where their bytes come from.

Folders need not be named; they come into being with what is in them.  A name is given once: two different sources for
it are an error of the recipe.
"""

import hashlib
import io
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

__all__ = ["Tree"]

_EXECUTABLE, _PLAIN = 0o755, 0o644


@dataclass(frozen=True, kw_only=True)
class _File:
    source: Path | bytes
    mode: int


@dataclass(frozen=True, kw_only=True)
class _Link:
    target: str


@dataclass(frozen=True, kw_only=True)
class _Folder:
    mode: int


@dataclass
class Tree:
    """The root file system of an image."""

    _entries: dict[str, _File | _Link | _Folder] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return _clean(name) in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def folder(self, name: str, *, mode: int = _EXECUTABLE) -> None:
        """An empty folder, or one with an unusual mode."""
        self._set(name, _Folder(mode=mode))

    def link(self, name: str, *, target: str) -> None:
        """A symbolic link."""
        self._set(name, _Link(target=target))

    def text(self, name: str, content: str, *, mode: int = _PLAIN) -> None:
        """A file with this content."""
        self._set(name, _File(source=content.encode(), mode=mode))

    def data(self, name: str, content: bytes, *, mode: int = _PLAIN) -> None:
        """A file with these bytes."""
        self._set(name, _File(source=content, mode=mode))

    def file(self, name: str, source: Path) -> None:
        """A copy of a file; links are followed, and of the mode only `executable` is kept."""
        executable = source.stat().st_mode & stat.S_IXUSR
        self._set(name, _File(source=source, mode=_EXECUTABLE if executable else _PLAIN))

    def copy(self, name: str, source: Path, *, wanted: Callable[[PurePosixPath], bool] = lambda _path: True) -> None:
        """A copy of a folder, without the parts whose path relative to it is not wanted."""
        for child in sorted(source.iterdir()):
            self._copy(name, child, relative=PurePosixPath(child.name), wanted=wanted)

    def sources(self) -> Iterator[tuple[str, Path]]:
        """Name and source of each file that is copied."""
        for name, entry in sorted(self._entries.items()):
            if isinstance(entry, _File) and isinstance(entry.source, Path):
                yield name, entry.source

    def fingerprint(self) -> str:
        """A hash that changes when the image would; of copied files, size and time stand for the content."""
        digest = hashlib.sha256()
        for name, entry in sorted(self._entries.items()):
            digest.update(repr((name, entry)).encode())
            if isinstance(entry, _File) and isinstance(entry.source, Path):
                status = entry.source.stat()
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()

    def write_tar(self, out: IO[bytes]) -> None:
        """Write all of it as a tar, sorted, with owner root and time zero."""
        folders = {str(parent) for name in self._entries for parent in PurePosixPath(name).parents} - {"."}
        entries = {name: _Folder(mode=_EXECUTABLE) for name in folders} | self._entries
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, entry in sorted(entries.items()):
                _add(tar, name, entry)

    def _copy(
        self, name: str, source: Path, *, relative: PurePosixPath, wanted: Callable[[PurePosixPath], bool]
    ) -> None:
        if not wanted(relative):
            return
        if source.is_dir():
            for child in sorted(source.iterdir()):
                self._copy(name, child, relative=relative / child.name, wanted=wanted)
        elif source.exists():
            self.file(f"{name}/{relative}", source)

    def _set(self, name: str, entry: _File | _Link | _Folder) -> None:
        clean = _clean(name)
        if self._entries.setdefault(clean, entry) != entry:
            raise ValueError(f"two sources for /{clean}: {self._entries[clean]} and {entry}")


def _clean(name: str) -> str:
    return str(PurePosixPath(name)).lstrip("/")


def _add(tar: tarfile.TarFile, name: str, entry: _File | _Link | _Folder) -> None:
    member = tarfile.TarInfo(name)
    if isinstance(entry, _Link):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
        tar.addfile(member)
    elif isinstance(entry, _Folder):
        member.type, member.mode = tarfile.DIRTYPE, entry.mode
        tar.addfile(member)
    else:
        member.mode = entry.mode
        if isinstance(entry.source, bytes):
            member.size = len(entry.source)
            tar.addfile(member, io.BytesIO(entry.source))
        else:
            with entry.source.open("rb") as file:
                member.size = entry.source.stat().st_size
                tar.addfile(member, file)
