"""What every process of ours does at its start and at its end.

Signals stop the group, the group's first error ends the process with its cause in the log and status 1, and garbage that the
imports left is put out of the collector's way.
"""

from __future__ import annotations

import gc
import logging
import platform
import signal
import sys
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, PlatformCollector, ProcessCollector

from hami_dra import __version__
from hami_dra._lib.threads import Group, GroupFailedError
from hami_dra._lib.turns import ask_for_short_turns

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["new_registry", "run_process"]

_JOIN_S = 15.0
_SWITCH_S = 0.001
"""Threads here work in slices of less than a millisecond: none should wait the default five for another's."""

_log = logging.getLogger(__name__)


def new_registry(component: str) -> CollectorRegistry:
    """A registry that knows the process, the platform and this build."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    info = Gauge(
        "hami_build_info",
        "Constant 1; the labels say what runs.",
        ["version", "component", "python"],
        registry=registry,
    )
    info.labels(__version__, component, platform.python_version()).set(1)
    return registry


def run_process(name: str, start: Callable[[Group], None]) -> int:
    """Run `start` and wait until a signal or a failure; the exit status."""
    sys.setswitchinterval(_SWITCH_S)
    ask_for_short_turns()
    group = Group(name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: group.stop())
    _log.info("starting", extra={"version": __version__, "component": name})
    try:
        start(group)
        gc.collect()
        gc.freeze()
        group.wait()
        group.join(_JOIN_S)
    except (GroupFailedError, TimeoutError):
        group.stop()
        _log.exception("stopping because of an error")
        return 1
    finally:
        group.stop()
    _log.info("stopped")
    return 0
