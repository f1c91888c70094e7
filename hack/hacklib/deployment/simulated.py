"""Simulated cards of a node: made as a driver root, observed from outside of every container.

The driver root of node I of a cluster is `<node folder>/var-lib/hami-sim`, which the node sees as `DRIVER_ROOT`.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hacklib.native.build import output_dir
from hacklib.ui import HackError

__all__ = ["DRIVER_ROOT", "Card", "CardProcess", "create_cards", "observe", "simctl"]

DRIVER_ROOT = "/var/lib/hami-sim"


@dataclass(frozen=True, kw_only=True)
class CardProcess:
    """A process that uses a card, as the simulated driver knows it; `pid` is the host's number."""

    pid: int
    command: str
    used_bytes: int
    gpu_time_ns: int
    """For how long the card worked for it."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One simulated card and who uses it."""

    pci: str
    uuid: str
    model: str
    memory_bytes: int
    used_bytes: int
    peak_bytes: int
    busy_ns: int
    """For how long it has worked."""
    time_slice_ns: int
    """How long a process's turn lasts; 0: as long as the driver holds right."""
    in_mig_mode: bool
    partitions: tuple[tuple[str, int], ...]
    """Profile and first memory slice of each GPU instance that has a compute instance."""
    processes: tuple[CardProcess, ...]

    @property
    def device(self) -> str:
        """The name of the card's device in a ResourceSlice."""
        return "gpu-" + self.pci.replace(":", "-").replace(".", "-")


def create_cards(root: Path, models: Sequence[tuple[str, int]], *options: str) -> None:
    """Make a driver root with so many cards of each model; one that is there already is left as it is."""
    wanted = [word for model, count in models for word in ("--model", model, "--count", str(count))]
    simctl("create", "--root", str(root), *wanted, *options)


def observe(root: Path) -> list[Card]:
    """What the cards of a driver root hold right now, in PCI order."""
    listed: Mapping[str, Any] = json.loads(simctl("list", "--root", str(root), "--json"))
    cards = [
        Card(
            in_mig_mode=card["mig"]["enabled"],
            partitions=tuple(sorted((it["profile"], it["start"]) for it in card["mig"]["instances"] if it["compute"])),
            processes=tuple(
                CardProcess(**{name: process[name] for name in ("pid", "command", "used_bytes", "gpu_time_ns")})
                for process in card["processes"]
            ),
            **{
                name: card[name]
                for name in (
                    "pci",
                    "uuid",
                    "model",
                    "memory_bytes",
                    "used_bytes",
                    "peak_bytes",
                    "busy_ns",
                    "time_slice_ns",
                )
            },
        )
        for card in listed["cards"]
    ]
    return sorted(cards, key=lambda card: card.pci)


def simctl(*arguments: str) -> str:
    """Run simctl; what it says."""
    program = output_dir("release") / "simgpu" / "simctl"
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise HackError(f"simctl {arguments[0]} failed: {ran.stderr.strip()}")
    return ran.stdout
