"""The command line of hack/demo."""

import argparse
import sys
from collections.abc import Sequence

from hacklib.demo.story import CHAPTERS
from hacklib.demo.telling import Telling
from hacklib.deployment import Site
from hacklib.ui import Ui

__all__ = ["main"]

_CARDS = [[("A100", 1)], [("A100", 1)]]


def main(argv: Sequence[str] | None = None) -> int:
    """Bring up the cluster, tell the story, clean up; the exit status."""
    parser = argparse.ArgumentParser(prog="hack/demo", description="Two real nodes, simulated GPUs, the whole story.")
    parser.add_argument("--keep", action="store_true", help="keep the cluster and print how to use it")
    parser.add_argument("--name", default="demo", help="of the cluster; default %(default)s")
    parser.add_argument("--kubernetes", default="1.36", metavar="VERSION", help="1.34, 1.35 or 1.36 (default)")
    arguments = parser.parse_args(argv)
    site = Site.up(name=arguments.name, cards=_CARDS, kubernetes=arguments.kubernetes, ui=Ui())
    try:
        _tell(site)
    except BaseException:
        if not arguments.keep:
            site.cluster.down()
        raise
    if arguments.keep:
        _say_how_to_use(arguments.name)
    else:
        site.cluster.down()
        print("\n  The machine is as it was: no process, mount, cgroup or namespace is left.")
    return 0


def _tell(site: Site) -> None:
    tell = Telling(sys.stdout)
    tell.chapter(f"Kubernetes {site.cluster.spec.kubernetes} with two real nodes; installing the chart")
    site.install()
    for pod in site.system.items("pods"):
        tell.show(f"{pod['metadata']['name']}  {pod['status']['phase']}  on {pod['spec']['nodeName']}")
    for chapter in CHAPTERS:
        chapter(site, tell)
    tell.summary()


def _say_how_to_use(name: str) -> None:
    run = f"hack/cluster exec --name {name} --"
    print(f"""
  The cluster is kept.  Some things to try:
    {run} kubectl get pods -A
    {run} kubectl get resourceslices,deviceclasses,resourceclaims -o yaml
    {run} kubectl logs -n hami-system ds/hami-dra-node
    {run} kubectl apply -f deploy/examples/06-gpu-config.yaml
  It ends with:
    hack/cluster down --name {name}
""")
