"""What the guard promises, tried on this machine's GPU: `run [--out FILE] [--scale 1.0] [--above 5] [--below 10]`.

Needs Linux, an NVIDIA driver, Python 3.9, and root or user namespaces; all else lies in the bundle.  Prints a line for each
promise, writes the figures as JSON, and ends with status 1 when a promise does not hold.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu.container import Share, WorkerError, Workers
from gpu.cuda import OUT_OF_MEMORY, Nvml

MIB = 1 << 20
LIMIT = 1024 * MIB
PIECE = 64 * MIB
ROUTES = ("sync", "managed", "pitch", "async", "procaddress", "vmm", "array")
PROCESSES = 8
KERNEL_S = 0.002


@dataclass
class Site:
    """The device under test, and what was measured on it."""

    workers: Workers
    bundle: Path
    uuid: str
    scale: float
    above: float
    below: float
    """How many points a share of the compute may be above its cores, and below them."""
    figures: dict[str, Any] = field(default_factory=dict)

    def share(self, *, memory_bytes: int = LIMIT, cores_percent: int = 0) -> Share:
        """A share of the device."""
        return self.workers.share(uuid=self.uuid, memory_bytes=memory_bytes, cores_percent=cores_percent)


Check = Callable[[Site], None]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Make a function one of the promises; its docstring is the promise."""
    CHECKS.append(function)
    return function


def expect(holds: bool, found: object) -> None:
    """Fail with what was found."""
    if not holds:
        raise AssertionError(f"found {found}")


def refused(action: Callable[[], object]) -> bool:
    """True when the action ends with CUDA_ERROR_OUT_OF_MEMORY."""
    try:
        action()
    except WorkerError as error:
        return error.code == OUT_OF_MEMORY
    return False


@check
def views_show_the_share(site: Site) -> None:
    """CUDA and NVML show the share's memory and nothing of the card's."""
    with site.workers.worker(site.share()) as worker:
        cuda, nvml = worker.ask("view"), worker.ask("nvml")
    expect(cuda["total"] == cuda["of_device"] == nvml["total"] == LIMIT, (cuda, nvml))
    expect(0 < cuda["free"] <= LIMIT and nvml["used"] + nvml["free"] == LIMIT, (cuda, nvml))
    site.figures["overhead_bytes_of_a_context"] = LIMIT - cuda["free"]


@check
def each_route_is_limited(site: Site) -> None:
    """Whatever the route, pieces are given up to the limit and refused above it, and come back when freed."""
    for route in ROUTES:
        share = site.share()
        with site.workers.worker(share) as worker:
            free = worker.ask("view")["free"]
            count = worker.ask("fill", route, PIECE)
            expect(0 < count <= free // PIECE, f"{route}: {count} pieces of {PIECE} in {free}")
            expect(share.used_bytes <= LIMIT, f"{route}: {share.used_bytes} charged")
            worker.ask("free")
            again = worker.ask("fill", route, PIECE)
            expect(again == count, f"{route}: {again} pieces after freeing {count}")


@check
def processes_share_one_limit(site: Site) -> None:
    """Processes that fill the share at once never hold more than the limit together."""
    share = site.share()
    with ExitStack() as stack:
        workers = [stack.enter_context(site.workers.worker(share)) for _ in range(PROCESSES)]
        for worker in workers:
            worker.tell("fill", "sync", 4 * MIB)
        counts = [worker.answer() for worker in workers]
        expect(sum(counts) * 4 * MIB <= LIMIT, counts)
        expect(share.used_bytes <= LIMIT, share.used_bytes)
        site.figures["pieces_of_processes"] = counts


@check
def death_gives_memory_back(site: Site) -> None:
    """After SIGKILL the next process may take all that the dead one held."""
    share = site.share()
    with site.workers.worker(share) as first:
        count = first.ask("fill", "sync", PIECE)
        first.kill()
    with site.workers.worker(share) as second:
        expect(second.ask("fill", "sync", PIECE) == count, count)


@check
def limits_change_while_a_program_runs(site: Site) -> None:
    """A lowered limit refuses new memory and takes none away; a raised one admits again."""
    share = site.share()
    with site.workers.worker(share) as worker:
        worker.ask("allocate", "sync", 8 * PIECE)
        share.change(memory_bytes=LIMIT // 2)
        expect(refused(lambda: worker.ask("allocate", "sync", PIECE)), "an allocation above the lowered limit")
        share.change(memory_bytes=2 * LIMIT)
        worker.ask("allocate", "sync", 8 * PIECE)
        expect(worker.ask("view")["total"] == 2 * LIMIT, worker.ask("view"))


@check
def a_static_runtime_is_limited(site: Site) -> None:
    """A program with NVIDIA's CUDA runtime linked statically sees the share and is refused above it."""
    program = site.bundle / "static_runtime"
    if not program.exists():
        raise Skipped("the simulated driver is not one that NVIDIA's runtime accepts")
    done = subprocess.run(
        site.workers.command(site.share(), program, str(LIMIT)), capture_output=True, text=True, check=False
    )
    expect(done.returncode == 0, done.stdout + done.stderr)


@check
def compute_meets_its_target(site: Site) -> None:
    """A program that wants the whole GPU gets its cores, whether it waits for each kernel or queues many."""
    seconds = 5.0 * site.scale
    with site.workers.worker(None) as worker:
        step_ns = worker.ask("calibrate", 0.2 * site.scale)
    steps = max(1, int(KERNEL_S * 1e9 / step_ns))
    for cores in (20, 50, 80):
        for queued in (1, 16):
            with site.workers.worker(site.share(cores_percent=cores)) as worker:
                worker.ask("run", 1.0 * site.scale, steps, queued)
                found = worker.ask("run", seconds, steps, queued)
            percent = found["kernels"] * steps * step_ns / found["seconds"] / 1e7
            site.figures[f"compute_percent_of_{cores}_queued_{queued}"] = round(percent, 2)
            expect(percent <= cores + site.above, f"{percent:.1f} % of the GPU with cores {cores}, {queued} queued")
            expect(percent >= cores - site.below, f"{percent:.1f} % of the GPU with cores {cores}, {queued} queued")


@check
def launches_cost_little(site: Site) -> None:
    """What the guard adds to a launch is measured (and no promise of this suite)."""
    rounds = int(200 * site.scale) + 5
    for name, share in (
        ("unhooked", None),
        ("no_core_limit", site.share()),
        ("cores_90", site.share(cores_percent=90)),
    ):
        with site.workers.worker(share) as worker:
            site.figures[f"launch_ns_{name}"] = round(worker.ask("launch_cost", rounds))


class Skipped(Exception):
    """The promise cannot be tried here; the text says why."""


def run(site: Site) -> int:
    """Try all promises and return how many do not hold."""
    failed = 0
    for function in CHECKS:
        promise = (function.__doc__ or "").strip()
        start = time.monotonic()
        try:
            function(site)
            word = "ok"
        except Skipped as reason:
            word = f"not tried: {reason}"
        except (AssertionError, WorkerError, RuntimeError) as error:
            word = f"FAILED: {error}"
            failed += 1
        site.figures[f"promise {function.__name__}"] = word
        print(f"{time.monotonic() - start:6.1f} s  {promise}  {word}", flush=True)
    return failed


def main() -> int:
    """Parse the command line, run, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    parser.add_argument("--scale", type=float, default=1.0, help="length of the measurements")
    parser.add_argument(
        "--above", type=float, default=5.0, help="points that a share of the compute may be above its cores"
    )
    parser.add_argument("--below", type=float, default=10.0, help="and below them, where the host launches in time")
    arguments = parser.parse_args()
    bundle = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        workers = Workers(bundle, Path(scratch))
        site = Site(
            workers=workers,
            bundle=bundle,
            uuid=Nvml(0).uuid(),
            scale=arguments.scale,
            above=arguments.above,
            below=arguments.below,
        )
        failed = run(site)
    if arguments.out:
        arguments.out.write_text(json.dumps(site.figures, indent=1) + "\n")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} promises held or were not tried, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
