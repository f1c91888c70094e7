"""Which Kubernetes this session's tests run on, what its API server keeps, and the record of what came of the tests."""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from hacklib.checks import leftovers
from hacklib.cluster.spec import ClusterSpec
from hacklib.deployment import Models, Site
from hacklib.ui import Ui
from hacklib.versions import Capability, Configuration, configuration, probe
from hacklib.versions.configurations import NEWEST
from hacklib.versions.record import LEFT_OUT, Record

PARTS: Sequence[Mapping[str, Any]] = [
    {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": "node-1"}}, "fixedShares": 20}
]
"""Entries of the node configuration: parts small enough for many pods, where cards are cut into parts."""


class Here:
    """The configuration that the environment names."""

    def __init__(self, found: Configuration) -> None:
        self.configuration = found

    def up(
        self, *, name: str, cards: Sequence[Models], ui: Ui, feature_gates: Mapping[str, bool] | None = None
    ) -> Site:
        """A cluster of it that somebody else ends; more gates can be opened."""
        return Site.up(
            name=name,
            cards=cards,
            kubernetes=self.configuration.kubernetes,
            feature_gates={**self.configuration.feature_gates, **(feature_gates or {})},
            ui=ui,
        )

    @contextmanager
    def running(
        self, *, name: str, cards: Sequence[Models], ui: Ui, feature_gates: Mapping[str, bool] | None = None
    ) -> Iterator[Site]:
        """A cluster of it for a `with` block, called after `name` and this process; nothing of it is left afterwards."""
        with self.up(name=f"{name}-{os.getpid()}", cards=cards, ui=ui, feature_gates=feature_gates) as site:
            spec = site.cluster.spec
            assert _processes_of(spec)
            assert _traces_of(spec)
            yield site
        assert _processes_of(spec) == []
        assert _traces_of(spec) == []
        assert not spec.folder.exists()


def _processes_of(spec: ClusterSpec) -> list[int]:
    """Processes of a cluster: told by its folder in their arguments, or by its cgroup."""

    def ours(process: Path) -> bool:
        try:
            words, cgroup = (process / "cmdline").read_bytes(), (process / "cgroup").read_text(encoding="utf-8")
        except OSError:
            return False
        return str(spec.folder).encode() in words or spec.cgroup in cgroup

    return [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit() and ours(process)]


def _traces_of(spec: ClusterSpec) -> list[str]:
    """Processes, mounts and cgroups that name the cluster."""
    return [line for line in leftovers.snapshot() if str(spec.folder) in line or spec.cgroup in line]


@lru_cache(maxsize=1)
def here() -> Here:
    """What the session runs on."""
    return Here(configuration(os.environ.get("HAMI_DRA_E2E_CONFIGURATION", NEWEST)))


@lru_cache(maxsize=8)
def missing(site: Site) -> Mapping[Capability, str]:
    """What the site's API server keeps, as `probe` says it; asked once."""
    return probe(site.kubectl)


def has(site: Site, capability: Capability) -> bool:
    """Whether the site's API server has a capability."""
    return not missing(site)[capability]


def applies(site: Site, *needs: Capability, lacks: Collection[Capability] = ()) -> None:
    """Leave out the test, with the reason, unless the API server has what it needs and has not what must be lacking."""
    found = missing(site)
    reasons = [found[capability] for capability in needs if found[capability]]
    reasons += [f"the API server has {capability}" for capability in lacks if not found[capability]]
    if reasons:
        pytest.skip(f"{LEFT_OUT}{'; '.join(reasons)}")


class _Recording:
    """Collects what the session has to tell of itself."""

    def __init__(self) -> None:
        self._missing: Mapping[Capability, str] = {}
        self._layouts: dict[str, str] = {}
        self._outcomes: dict[str, str] = {}

    def server(self, missing: Mapping[Capability, str]) -> None:
        """What the API server of the configuration keeps; clusters with gates of their own do not speak for it."""
        self._missing = missing

    def layout(self, mode: str, words: str) -> None:
        """How cards are published for which a mode is asked."""
        self._layouts[mode] = words

    def outcome(self, report: pytest.TestReport) -> None:
        """What became of a phase of a test."""
        name = report.nodeid.rpartition("/")[2].partition("[")[0]
        if report.skipped and isinstance(report.longrepr, tuple):
            self._outcomes.setdefault(name, report.longrepr[2].removeprefix("Skipped: "))
        elif report.failed:
            self._outcomes[name] = "failed"
        elif report.when == "call":
            self._outcomes.setdefault(name, "passed")

    def write(self) -> None:
        """The record, where `HAMI_DRA_E2E_RECORD` wants it."""
        path = os.environ.get("HAMI_DRA_E2E_RECORD")
        if path:
            missing = {capability.name.lower(): reason for capability, reason in self._missing.items()}
            made = Record(missing=missing, layouts=self._layouts, tests=dict(sorted(self._outcomes.items())))
            Path(path).write_text(json.dumps(made.as_json()), encoding="utf-8")


record = _Recording()
