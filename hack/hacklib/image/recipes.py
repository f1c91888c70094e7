"""What each image consists of.

A recipe first says what goes into its image, cheaply, and assembles it only if that has changed since the image was
packed.  The lists of wheels are those that `deploy/container/Dockerfile` uses.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hacklib import paths, toolchain
from hacklib.image import libraries, python_files
from hacklib.image.oci import Config
from hacklib.image.tree import Tree
from hacklib.ui import HackError

__all__ = ["CONTAINER", "GUARD", "Recipe", "listed", "pause", "product", "workload"]

CONTAINER = paths.REPOSITORY / "deploy" / "container"
GUARD = "/opt/hami-dra/lib/libhami_guard.so"
"""Where the product image holds the library that the node plugin installs on its node."""
_NONROOT = 65532
_ACCOUNTS = f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{_NONROOT}:{_NONROOT}:nonroot:/:/sbin/nologin\n"
_GROUPS = f"root:x:0:\nnonroot:x:{_NONROOT}:\n"
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"/{python_files.WHEELS}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
_COMMAND = """\
#!/usr/local/bin/python3
import sys

from hami_dra.cli import main

sys.exit(main())
"""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An image before it is packed."""

    name: str
    fingerprint: str
    config: Config
    assemble: Callable[[], Tree]


def product(*, guard: Path) -> Recipe:
    """The product: Python, the wheels it needs, itself, and the guard library.  No compiler, no package manager, no tests."""
    if not guard.is_file():
        raise HackError(f"{guard} does not exist: build it with `hack/native build`, or name another with --guard")
    wheels = listed("product")
    package = paths.REPOSITORY / "hami_dra"
    config = Config(entrypoint=["/usr/local/bin/hami-dra"], environment=_ENVIRONMENT, user=f"{_NONROOT}:{_NONROOT}")

    def assemble() -> Tree:
        tree = _python(wheels)
        python_files.add_source(tree, package)
        tree.text("/usr/local/bin/hami-dra", _COMMAND, mode=0o755)
        tree.file(GUARD, guard)
        return _complete(tree)

    files = [guard, *sorted(package.rglob("*.py"))]
    return Recipe(name="hami-dra", fingerprint=_fingerprint(wheels, files), config=config, assemble=assemble)


def workload() -> Recipe:
    """What the examples run: Python with the CUDA and NVML clients of its users, and no driver library."""
    wheels = listed("workload")
    config = Config(entrypoint=["/usr/local/bin/python3"], environment=_ENVIRONMENT)
    return Recipe(
        name="hami-dra-workload",
        fingerprint=_fingerprint(wheels, []),
        config=config,
        assemble=lambda: _complete(_python(wheels)),
    )


def pause() -> Recipe:
    """The sandbox image: one static program."""
    source = CONTAINER / "pause.c"

    def assemble() -> Tree:
        tree = Tree()
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "pause")
            compiler = toolchain.zig_cc(target=f"{platform.machine()}-linux-musl")
            words = [*compiler, "-static", "-Os", "-s", "-o", str(program), str(source)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise HackError(f"{source} cannot be compiled: {done.stderr}")
            tree.data("pause", program.read_bytes(), mode=0o755)
        return tree

    config = Config(entrypoint=["/pause"], environment={}, user="65535:65535")
    return Recipe(name="hami-dra-pause", fingerprint=_fingerprint([], [source]), config=config, assemble=assemble)


def listed(name: str) -> list[str]:
    """The lines of a list in deploy/container, such as the wheels of an image."""
    lines = (CONTAINER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def _python(wheels: Iterable[str]) -> Tree:
    tree = Tree()
    python_files.add_interpreter(tree)
    python_files.add_wheels(tree, wheels, left_out=listed("left-out"))
    return tree


def _complete(tree: Tree) -> Tree:
    """Add what all images with Python have in common."""
    libraries.add_libraries(tree)
    python_files.compile_all(tree, cache=paths.images_dir() / "compiled")
    tree.text("/etc/passwd", _ACCOUNTS)
    tree.text("/etc/group", _GROUPS)
    tree.text("/etc/nsswitch.conf", "hosts: files dns\n")
    for folder in ("bin", "lib", "lib64", "sbin"):
        tree.link(folder, target=f"usr/{folder}")
        tree.folder(f"usr/{folder}")
    for folder in ("dev", "proc", "root", "run", "sys", "var/lib"):
        tree.folder(folder)
    tree.link("var/run", target="../run")
    tree.folder("tmp", mode=0o1777)
    return tree


def _fingerprint(wheels: Iterable[str], files: Iterable[Path]) -> str:
    """A hash of all that decides an image: the recipes, the interpreter, the versions of the wheels, and files' contents."""
    digest = hashlib.sha256(f"{sys.version} {Path(sys.executable).resolve()} {os.uname().machine}".encode())
    for distribution in python_files.closure(wheels):
        digest.update(f"{distribution.name}=={distribution.version} ".encode())
    for path in [*sorted(Path(__file__).parent.glob("*.py")), CONTAINER / "left-out.txt", *files]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
