"""The worlds, and where each comes from.

old_glibc is the oldest glibc that package mirrors still serve: 2.23 of February 2016, from the release pocket of Ubuntu 16.04,
which never changes.  That is between Debian 8 (2.19) and Debian 9 (2.24), whose archives are served by archive.debian.org alone.
"""

from pathlib import Path

from hacklib.ui import Ui
from hacklib.worlds.debs import Suite, unpacked

__all__ = ["emulated_arm64", "musl", "old_glibc"]

_XENIAL = Suite(
    source="http://archive.ubuntu.com/ubuntu xenial main",
    architecture="amd64",
    packages={
        "coreutils": "3d0d81ea9128d85d3fa4f593d9bed54a403007856619e99c3784bc76eaee6498",
        "dash": "c46b4b8c9c952bfeab03993451f7c3c7f5d359ebfbf381e6c36e2870373cde85",
        "libacl1": "a6f4378176071b6d9f2b6f0402edf8ef6cd2cc53ad4052089642aad358fe55a6",
        "libattr1": "6b34040173acef1b806b128bc258b130519b2a7eb167ff1c3f3cb98fa1ddc648",
        "libc6": "68d69a0fb2dae7578a2a7054bc0cd5f0994d523f60d540bc6708ff3f2fb33e18",
        "libpcre3": "736f799fbb8a8d4be8cdded2b046813de391661d925d6e5a5a82febf65bbf065",
        "libselinux1": "1d71715f2fa16391e55e29f2b4238ca4333f6324a40e5fc503bce9760d5b9330",
    },
)


def old_glibc(*, ui: Ui) -> Path:
    """A root file system of x86-64 with glibc 2.23, a shell and the usual tools.  Raises HackError when it cannot be had."""
    return unpacked("glibc-2.23", _XENIAL, ui=ui)


def musl(*, ui: Ui) -> Path:
    """The host's distribution's musl: its dynamic linker and C library.  Raises HackError when it cannot be had."""
    return unpacked("musl", ["musl"], ui=ui)


def emulated_arm64(*, ui: Ui) -> tuple[Path, Path]:
    """The emulator of arm64 programs, and the root with their C library.  Raises HackError when they cannot be had."""
    folder = unpacked("arm64", ["qemu-user-static", "libc6-arm64-cross"], ui=ui)
    return folder / "usr" / "bin" / "qemu-aarch64-static", folder / "usr" / "aarch64-linux-gnu"
