"""NodePrepareResources as kubelet measures it: one claim at a time, and many pods at once.

One claim at a time, kubelet's sum of durations is read between two pods: the difference is that call's own time, hence
exact quantiles.  In the burst calls overlap, and quantiles are those of kubelet's histogram over several bursts.  The bound
beside it is what kubelet waits in the same seconds for containerd to say how a container, sandbox or image is: calls that read
some memory.  With `--peer` the node plugin of the Go dra-example-driver (a program that runs on the node) serves the same
bursts on the same cluster for comparison.
"""

import argparse
import functools
import operator
import os
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.footprint import resident_mib, seconds_to_first_slice
from bench.histogram import Histogram
from e2e.support import pod_with, share_template

from hacklib.deployment import Kubectl, KubeObject, Site, wait_until
from hacklib.ui import Ui

__all__ = ["main"]

METRIC = "dra_grpc_operations_duration_seconds"
METHOD = "DRAPlugin/NodePrepareResources"
OURS = "gpu.hami.io"
RUNTIME = "kubelet_runtime_operations_duration_seconds"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the report; times in milliseconds, but `running_s`: from apply until the last pod ran."""

    what: str
    calls: int
    mean_ms: float
    p50_ms: float
    p99_ms: float
    running_s: float | None = None

    def __str__(self) -> str:
        running = "" if self.running_s is None else f"{self.running_s:.1f} s"
        return (
            f"| {self.what} | {self.calls} | {self.mean_ms:.1f} | {self.p50_ms:.1f} | {self.p99_ms:.1f} | {running} |"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Bring up a cluster of one node, measure, print a table in Markdown, and take the cluster down."""
    parser = argparse.ArgumentParser(prog="test/bench/prepare", description=__doc__.partition("\n")[0])
    parser.add_argument("--claims", type=int, default=30, metavar="N", help="how many claims one after another")
    parser.add_argument("--burst", type=int, default=40, metavar="N", help="how many pods at once")
    parser.add_argument("--bursts", type=int, default=5, metavar="N", help="how many such bursts")
    parser.add_argument("--peer", type=Path, metavar="PROGRAM", help="node plugin of the Go dra-example-driver")
    arguments = parser.parse_args(argv)
    with Site.up(name=f"bench-{os.getpid()}", cards=[[("A100", 1)]], ui=Ui()) as site:
        site.install(values={"slots": 64})
        first_slice_s = seconds_to_first_slice(site)
        site.kubectl.apply(share_template("one", memory="1Gi"))
        _bursts(site, driver=OURS, template="one", number=2, times=1)  # warm: images, page cache, connections
        rows = [
            _one_by_one(site, number=arguments.claims),
            *_bursts(site, driver=OURS, template="one", number=arguments.burst, times=arguments.bursts),
        ]
        memory = {name: resident_mib(site, component=name) for name in ("node", "controller")}
        if arguments.peer:
            rows += _peer(site, arguments.peer, number=arguments.burst, times=arguments.bursts)
    print("| NodePrepareResources | calls | mean ms | p50 ms | p99 ms | all Running after |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(*rows, sep="\n")
    print(f"\nnode plugin: first slice {first_slice_s:.1f} s after its start, {memory['node']:.0f} MiB resident")
    print(f"controller: {memory['controller']:.0f} MiB resident")
    return 0


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What kubelet has measured so far."""

    prepare: Histogram
    bound: Histogram

    def __sub__(self, earlier: "_Seen") -> "_Seen":
        return _Seen(prepare=self.prepare - earlier.prepare, bound=self.bound - earlier.bound)

    def __add__(self, other: "_Seen") -> "_Seen":
        return _Seen(prepare=self.prepare + other.prepare, bound=self.bound + other.bound)


def _scrape(kubectl: Kubectl, driver: str) -> _Seen:
    text = kubectl.run("get", "--raw", "/api/v1/nodes/node-1/proxy/metrics")
    return _Seen(
        prepare=Histogram.parse(text, name=METRIC, driver_name=driver, method_name=METHOD),
        bound=Histogram.parse(text, name=RUNTIME, operation_type="status"),
    )


def _pod(site: Site, name: str, template: str) -> KubeObject:
    """The smallest pod there is, so that starting containers takes as little as possible from what is measured."""
    pod = pod_with({"gpu": {"resourceClaimTemplateName": template}}, name=name)
    (container,) = pod["spec"]["containers"]
    container |= {"image": site.cluster.spec.pause_image, "command": ["/pause"]}
    return pod


def _one_by_one(site: Site, *, number: int) -> Row:
    times_ms = []
    for index in range(number):
        before = _scrape(site.kubectl, OURS)
        site.kubectl.apply(_pod(site, f"single-{index}", "one"))
        site.kubectl.wait_running(f"single-{index}")
        seen = (_scrape(site.kubectl, OURS) - before).prepare
        times_ms.append(1000 * seen.sum / seen.count)
        site.kubectl.delete("pod", f"single-{index}", now=True)
    quantiles = statistics.quantiles(times_ms, n=100, method="inclusive")
    return Row(
        what=f"hami-dra, {number} claims one after another",
        calls=number,
        mean_ms=statistics.mean(times_ms),
        p50_ms=quantiles[49],
        p99_ms=quantiles[98],
    )


def _bursts(site: Site, *, driver: str, template: str, number: int, times: int) -> list[Row]:
    """Of all bursts together: the driver's calls, and those to containerd."""
    seconds, measured = zip(*(_burst(site, driver, template, number) for _ in range(times)), strict=True)
    seen = functools.reduce(operator.add, measured)
    return [
        _row(f"{driver}, {times} times {number} pods at once", seen.prepare, running_s=statistics.mean(seconds)),
        _row("bound: containerd's answers to kubelet meanwhile", seen.bound),
    ]


def _burst(site: Site, driver: str, template: str, number: int) -> tuple[float, _Seen]:
    before = _scrape(site.kubectl, driver)
    begun = time.monotonic()
    site.kubectl.apply(*(_pod(site, f"burst-{index}", template) for index in range(number)))

    def running() -> bool:
        return [item["status"].get("phase") for item in site.kubectl.items("pods")] == ["Running"] * number

    wait_until(running, what=f"{number} pods running", deadline_s=180)
    running_s = time.monotonic() - begun
    seen = _scrape(site.kubectl, driver) - before
    site.kubectl.run("delete", "pods", "--all", "--grace-period=1", timeout_s=180)
    return running_s, seen


def _row(what: str, seen: Histogram, running_s: float | None = None) -> Row:
    return Row(
        what=what,
        calls=int(seen.count),
        mean_ms=1000 * seen.mean,
        p50_ms=1000 * seen.quantile(0.5),
        p99_ms=1000 * seen.quantile(0.99),
        running_s=running_s,
    )


@contextmanager
def _peer_running(site: Site, program: Path, *, devices: int) -> Iterator[None]:
    log = site.cluster.spec.logs / "peer.log"
    environment = os.environ | {
        "KUBECONFIG": str(site.cluster.kubeconfig),
        "NODE_NAME": "node-1",
        "NAMESPACE": "default",
        "POD_UID": "peer",
        "NUM_DEVICES": str(devices),
    }
    with log.open("w") as out:
        process = subprocess.Popen(
            [*site.cluster.words(node=1), program], env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _peer(site: Site, program: Path, *, number: int, times: int) -> list[Row]:
    driver = "gpu.example.com"
    site.kubectl.apply(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": driver},
            "spec": {"selectors": [{"cel": {"expression": f"device.driver == '{driver}'"}}]},
        },
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": "peer"},
            "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": driver}}]}}},
        },
    )
    with _peer_running(site, program, devices=number):
        wait_until(
            lambda: site.kubectl.items("resourceslices", f"--field-selector=spec.driver={driver}"),
            what="the peer's slices",
        )
        _bursts(site, driver=driver, template="peer", number=2, times=1)
        return _bursts(site, driver=driver, template="peer", number=number, times=times)
