"""Histograms of Prometheus' text format: what was counted between two scrapes, and its quantiles."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

__all__ = ["Histogram"]

_SAMPLE = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How many observations there were, what they add up to, and how many were at most each bound."""

    count: float = 0.0
    sum: float = 0.0
    buckets: Mapping[float, float]

    @classmethod
    def parse(cls, text: str, *, name: str, **labels: str) -> Self:
        """All series of a metric whose labels begin or end as given, added up."""
        totals = {"count": 0.0, "sum": 0.0}
        buckets: dict[float, float] = {}
        for sample in _SAMPLE.finditer(text):
            suffix = sample["name"].removeprefix(f"{name}_")
            found = dict(_LABEL.findall(sample["labels"]))
            if suffix == sample["name"] or not all(found.get(key, "").endswith(value) for key, value in labels.items()):
                continue
            if suffix == "bucket":
                bound = math.inf if found["le"] == "+Inf" else float(found["le"])
                buckets[bound] = buckets.get(bound, 0.0) + float(sample["value"])
            elif suffix in totals:
                totals[suffix] += float(sample["value"])
        return cls(buckets=dict(sorted(buckets.items())), **totals)

    def __sub__(self, earlier: "Histogram") -> "Histogram":
        """What was observed since."""
        return Histogram(
            count=self.count - earlier.count,
            sum=self.sum - earlier.sum,
            buckets={bound: number - earlier.buckets.get(bound, 0.0) for bound, number in self.buckets.items()},
        )

    def __add__(self, other: "Histogram") -> "Histogram":
        """What was observed in both."""
        return Histogram(
            count=self.count + other.count,
            sum=self.sum + other.sum,
            buckets={bound: number + other.buckets.get(bound, 0.0) for bound, number in self.buckets.items()},
        )

    @property
    def mean(self) -> float:
        """Mean of the observations; NaN if there are none."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, part: float) -> float:
        """A quantile, by linear interpolation within its bucket as Prometheus does it."""
        wanted, below, lower = part * self.count, 0.0, 0.0
        for bound, number in self.buckets.items():
            if number >= wanted:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * ((wanted - below) / (number - below) if number > below else 1.0)
            below, lower = number, bound
        return lower
