"""The command line of `hack/binaries`."""

import argparse

from hacklib import binaries
from hacklib.ui import Ui

__all__ = ["main"]


def main() -> int:
    """Build what is asked for and print the folder of the programs."""
    parser = argparse.ArgumentParser(
        prog="hack/binaries", description="Build Kubernetes, etcd, containerd, runc, CNI plugins, helm and kwok, once."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build what is not built yet and print its folder")
    versions = ", ".join(binaries.KUBERNETES_VERSIONS)
    build.add_argument("--kubernetes", default="1.36", metavar="VERSION", help=f"one of {versions}; 1.36 by default")
    arguments = parser.parse_args()
    print(binaries.provide(binaries.parse_minor(arguments.kubernetes), ui=Ui()))
    return 0
