"""OCI images without a Docker engine.

`build` packs one of the images of `recipes` into the cache, unless nothing that goes into it has changed.
"""

import re
import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from hacklib import paths
from hacklib.image import oci, recipes
from hacklib.ui import Ui

__all__ = ["IMAGES", "Image", "ImageName", "build", "version"]

ImageName = Literal["product", "workload", "pause"]
IMAGES: tuple[ImageName, ...] = get_args(ImageName)
_KEPT_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image archive, and the name under which pods refer to it."""

    reference: str
    archive: Path


def version() -> str:
    """The version of the product, which is the tag of its images."""
    project = tomllib.loads((paths.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def build(name: ImageName, *, guard: Path | None = None, ui: Ui) -> Image:
    """The archive of an image, packed first if anything in it has changed.

    Only the product holds the guard library: by default the one that `hack/native build` made.
    """
    recipe = _recipe(name, guard=guard or paths.native_dir() / "release" / "libhami_guard.so")
    reference = f"{recipe.name}:{version()}"
    prefix = f"{recipe.name}-{version()}-"
    archive = paths.images_dir() / f"{prefix}{recipe.fingerprint[:12]}.tar"
    if not archive.exists():
        with ui.task(f"packing image {reference}"):
            oci.write(archive, reference=reference, tree=recipe.assemble(), config=recipe.config)
        _forget_older(archive, prefix=prefix)
    return Image(reference=oci.qualified(reference), archive=archive)


def _recipe(name: ImageName, *, guard: Path) -> recipes.Recipe:
    if name == "product":
        return recipes.product(guard=guard)
    return recipes.workload() if name == "workload" else recipes.pause()


def _forget_older(archive: Path, *, prefix: str) -> None:
    """Remove earlier archives of the image, except those that somebody may just be loading."""
    now = time.time()
    for other in archive.parent.glob(f"{prefix}*.tar"):
        if other != archive and re.fullmatch(r"[0-9a-f]{12}", other.stem.removeprefix(prefix)):
            with suppress(FileNotFoundError):
                if now - other.stat().st_mtime > _KEPT_S:
                    other.unlink()
