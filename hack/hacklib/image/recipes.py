"""Which files each image consists of."""

import hashlib
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hacklib import paths, toolchain
from hacklib.image.oci import Config
from hacklib.image.tree import Tree
from hacklib.ui import HackError

__all__ = ["Recipe", "pause"]

CONTAINER = paths.REPOSITORY / "deploy" / "container"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An image before it is packed."""

    name: str
    tree: Tree
    config: Config


def pause() -> Recipe:
    """The sandbox image: one static program."""
    source = CONTAINER / "pause.c"
    program = paths.images_dir() / f"pause-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            compiled = Path(folder, "pause")
            compiler = toolchain.zig_cc(target=f"{platform.machine()}-linux-musl")
            done = subprocess.run(
                [*compiler, "-static", "-Os", "-s", "-o", compiled, source], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise HackError(f"{source} cannot be compiled: {done.stderr}")
            compiled.replace(program)
    tree = Tree()
    tree.file("pause", program)
    return Recipe(name="hami-dra-pause", tree=tree, config=Config(entrypoint=["/pause"], environment={}, user="65535"))
