"""The command line of `hack/image`."""

import argparse
import shutil
from pathlib import Path

from hacklib import image
from hacklib.ui import Ui

__all__ = ["main"]


def main() -> int:
    """Build the images asked for and print their archives."""
    parser = argparse.ArgumentParser(prog="hack/image", description="OCI images without a Docker engine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="pack an image, unless that was done before, and print its archive")
    build.add_argument("image", choices=[*image.IMAGES, "all"])
    build.add_argument("--out", type=Path, metavar="DIR", help="copy the archives there, as <name>.tar")
    build.add_argument("--guard", type=Path, metavar="SO", help="the guard library for the product image")
    arguments = parser.parse_args()
    for name in image.IMAGES if arguments.image == "all" else [arguments.image]:
        archive = image.build(name, guard=arguments.guard, ui=Ui()).archive
        if arguments.out:
            arguments.out.mkdir(parents=True, exist_ok=True)
            archive = Path(shutil.copyfile(archive, arguments.out / f"{name}.tar"))
        print(archive)
    return 0
