"""Which boot of the machine this is.

Everything that a container held is gone after a reboot, and so is the CDI directory (a tmpfs); state of another boot is
worth nothing.  The kernel's boot id tells the two apart where clocks cannot.
"""

from pathlib import Path

from hami_dra.host.files import node_state_error

__all__ = ["BOOT_ID_FILE", "boot_id"]

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = BOOT_ID_FILE) -> str:
    """The id of the running boot.

    Raises:
        NodeStateError: the file cannot be read or is empty.
    """
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise node_state_error("read the boot id", path, error) from error
    if not text:
        raise node_state_error("read the boot id", path, ValueError("the file is empty"))
    return text
