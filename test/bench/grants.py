"""The node plugin's arbiter at work on one card of the benchmark, without the node plugin.

It decides by `core.arbiter` alone: from the usage files, and from the card's GPU time by process in whole percent of at least a
sixth of a second, as NVML gives it.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from native.guard.harness import Node

from hami_dra._gen import abi
from hami_dra.core.arbiter import CardState, Look, Truth, decide
from hami_dra.core.limits import decode, encode

__all__ = ["Grants"]

SAMPLE_S = 1 / 6


class Grants:
    """What one card's shares are granted, decided anew with each step."""

    def __init__(self, *, node: Node, shares: Sequence[Path], pids: Sequence[int]) -> None:
        self._node = node
        self._shares = shares
        self._pids = pids
        self._state = CardState()
        self._seen = node.gpu_time_ns()
        self._seen_at = self._stepped_at = time.monotonic()
        self._charged = [0] * len(shares)
        self._throttled = [0] * len(shares)

    def step(self) -> None:
        """One round, to be made about ten times a second."""
        now, truth = time.monotonic(), None
        if now - self._seen_at >= SAMPLE_S:
            fresh, at = self._node.gpu_time_ns(), time.monotonic()
            truth = self._truth(self._seen, fresh, over_s=at - self._seen_at)
            self._seen, self._seen_at = fresh, at
        looks = [self._look(index, self._charged, self._throttled) for index in range(len(self._shares))]
        self._state, grants = decide(self._state, looks, elapsed_s=now - self._stepped_at, truth=truth)
        self._stepped_at = now
        for share in self._shares:
            _grant(share, grants[share.name])

    def _truth(self, before: dict[int, int], after: dict[int, int], *, over_s: float) -> Truth:
        busy = {
            share.name: round(100 * (after.get(pid, 0) - before.get(pid, 0)) / (1e9 * over_s)) / 100
            for share, pid in zip(self._shares, self._pids, strict=True)
        }
        return Truth(over_s=over_s, busy=busy)

    def _look(self, index: int, charged: list[int], throttled: list[int]) -> Look:
        share = self._shares[index]
        limits = decode((share / "limits").read_bytes())
        usage = (share / "usage").read_bytes()[: abi.USAGE_HEADER_SIZE]
        spent, waited = (_u64(usage, at) for at in (abi.USAGE_GPU_TIME_NS_OFFSET, abi.USAGE_THROTTLED_NS_OFFSET))
        look = Look(
            key=share.name,
            cores_percent=limits.cores_percent,
            qos=limits.qos,
            priority=limits.priority,
            wanted=True,
            throttled=waited > throttled[index],
            charged_ns=max(0, spent - charged[index]),
        )
        charged[index], throttled[index] = spent, waited
        return look


def _u64(page: bytes, offset: int) -> int:
    return int.from_bytes(page[offset : offset + 8], "little")


def _grant(share: Path, permille: int) -> None:
    """Writes a changed grant in place, under the page's seqlock."""
    path = share / "limits"
    old = decode(path.read_bytes())
    if old.granted_permille == permille:
        return
    with path.open("r+b", buffering=0) as file:
        sequence = _u64(path.read_bytes(), abi.LIMITS_SEQUENCE_OFFSET) & 0xFFFFFFFF
        page = bytearray(encode(replace(old, granted_permille=permille, generation=old.generation + 1)))
        page[abi.LIMITS_SEQUENCE_OFFSET : abi.LIMITS_SEQUENCE_OFFSET + 4] = (sequence + 1).to_bytes(4, "little")
        file.write(page[: abi.LIMITS_SEQUENCE_OFFSET + 4])
        file.write(page[abi.LIMITS_SEQUENCE_OFFSET + 4 :])
        file.seek(abi.LIMITS_SEQUENCE_OFFSET)
        file.write((sequence + 2).to_bytes(4, "little"))
