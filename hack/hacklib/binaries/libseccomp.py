"""The headers and the shared library of libseccomp, which runc needs and which is the one thing that no Go module has.

Taken from the host if it has the development package, else from the host's package manager: unpacked into a folder
where that is possible (Debian, Ubuntu), else installed.  The library is copied beside runc, so that the built
programs do not depend on what happens to the host later.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hacklib.ui import HackError

__all__ = ["Libseccomp", "provide"]

_SONAME = "libseccomp.so.2"
_NEW_ARCHITECTURES = {
    "SCMP_ARCH_LOONGARCH64": "0xC0000102U",
    "SCMP_ARCH_M68K": "0x00000004U",
    "SCMP_ARCH_SH": "0x4000002AU",
    "SCMP_ARCH_SHEB": "0x0000002AU",
}
"""AUDIT_ARCH_* values that older headers lack.  Left alone, the Go bindings call all of them ARCH_BAD, a switch with
equal cases, which cgo refuses when the compiler is clang (zig)."""
_INSTALLERS = {
    "dnf": ["dnf", "install", "-y", "libseccomp-devel"],
    "zypper": ["zypper", "--non-interactive", "install", "libseccomp-devel"],
    "apk": ["apk", "add", "libseccomp-dev"],
    "pacman": ["pacman", "-S", "--noconfirm", "libseccomp"],
}


@dataclass(frozen=True, kw_only=True)
class Libseccomp:
    """Where seccomp.h and the shared library are."""

    include: Path
    library: Path

    def environment(self, *, runtime_folder: Path) -> dict[str, str]:
        """What makes cgo find the library now, and the program find it in `runtime_folder`.

        cgo would ask pkg-config, which hosts may lack and whose answer Go's cache keeps for ever: it asks `true` instead.
        """
        header = (self.include / "seccomp.h").read_text(encoding="utf-8")
        defines = [f"-D{name}={value}" for name, value in _NEW_ARCHITECTURES.items() if f"{name}\t" not in header]
        return {
            "PKG_CONFIG": "true",
            "CGO_CFLAGS": " ".join(["-O2", f"-I{self.include}", *defines]),
            "CGO_LDFLAGS": f"-L{self.library.parent} -lseccomp -Wl,-rpath,{runtime_folder}",
        }


def provide(folder: Path) -> Libseccomp:
    """The library, with a copy of it in `folder`/lib.  Raises HackError when the host has no way to get it."""
    found = _search(Path("/"))
    if found is None and shutil.which("apt-get"):
        _unpack_debian(folder / "unpacked")
        found = _search(folder / "unpacked")
    elif found is None:
        _install()
        found = _search(Path("/"))
    if found is None:
        raise HackError("runc needs libseccomp's header and library: install libseccomp-dev (or -devel) and try again")
    target = folder / "lib" / _SONAME
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(found.library, target)
    target.with_name("libseccomp.so").symlink_to(target.name)
    return Libseccomp(include=found.include, library=target)


def _search(root: Path) -> Libseccomp | None:
    include = root / "usr/include"
    libraries = [
        *root.glob(f"usr/lib/*-linux-*/{_SONAME}"),
        *(root / "usr" / lib / _SONAME for lib in ("lib64", "lib")),
    ]
    library = next((path for path in libraries if path.exists()), None)
    if library is None or not (include / "seccomp.h").is_file():
        return None
    return Libseccomp(include=include, library=library)


def _unpack_debian(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "libseccomp-dev", "libseccomp2"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as packages:
        if subprocess.run(download, cwd=packages, capture_output=True, check=False).returncode:
            subprocess.run(["apt-get", "update"], capture_output=True, check=False)
            again = subprocess.run(download, cwd=packages, capture_output=True, text=True, check=False)
            if again.returncode:
                raise HackError(f"runc needs libseccomp-dev, and apt-get cannot download it: {again.stderr.strip()}")
        for package in Path(packages).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)


def _install() -> None:
    command = next((words for program, words in _INSTALLERS.items() if shutil.which(program)), None)
    if command is None or os.geteuid() != 0:
        return
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HackError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
