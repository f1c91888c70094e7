"""Kubernetes, containerd, etcd and their company, built from pinned Go modules into the cache.

`provide` is the whole of it: a folder that holds every program of a cluster, made of the unit that all versions share
and the one of the version asked for.
"""

from pathlib import Path

from hacklib.binaries.builder import build_unit, is_built
from hacklib.binaries.recipe import KUBERNETES_VERSIONS, MinorVersion, base_unit, kubernetes_unit, parse_minor
from hacklib.ui import Ui

__all__ = ["KUBERNETES_VERSIONS", "MinorVersion", "parse_minor", "provide"]


def provide(minor: MinorVersion, *, ui: Ui) -> Path:
    """A folder with all programs for clusters of one version, `cni` among them; built first if need be."""
    if not (is_built(base_unit()) and is_built(kubernetes_unit(minor))):
        ui.note(f"building Kubernetes {KUBERNETES_VERSIONS[minor]} and its company from source: once, 5 to 10 minutes")
    programs = build_unit(kubernetes_unit(minor), ui=ui)
    base = build_unit(base_unit(), ui=ui)
    for program in base.iterdir():
        link = programs / program.name
        if not link.is_symlink() or link.readlink() != program:
            fresh = programs / f".{program.name}.new"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(program)
            fresh.replace(link)
    return programs
