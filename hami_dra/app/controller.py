"""Composition root of `hami-dra controller`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from hami_dra._lib.workqueue import WorkQueue
from hami_dra.app.http import serve_http
from hami_dra.app.process import new_registry
from hami_dra.controller import ClaimKey, ClaimResolver, ControllerMetrics
from hami_dra.core.audience import audience
from hami_dra.kube.claims import CLAIMS_PATH, Claims
from hami_dra.kube.events import EventRecorder
from hami_dra.kube.leases import Elector
from hami_dra.kube.reflector import Collection, Reflector

if TYPE_CHECKING:
    from hami_dra._lib.threads import Group
    from hami_dra.api.k8s import JsonObject, ResourceClaim
    from hami_dra.core.errors import HamiDraError
    from hami_dra.kube.transport import Transport

__all__ = ["ControllerOptions", "LeadershipLostError", "start_controller"]

_log = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """Another replica may lead now: this process ends, so that nothing of its term goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """What the command line says."""

    namespace: str
    identity: str
    lease_name: str = "hami-dra-controller"
    metrics_port: int = 8080
    workers: int = 8


class _ClaimHandler:
    """The reflector's news, as the resolver wants them."""

    def __init__(self, resolver: ClaimResolver) -> None:
        self._resolver = resolver

    def added(self, obj: JsonObject) -> None:
        self._resolver.changed(cast("ResourceClaim", obj))

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        del old
        self._resolver.changed(cast("ResourceClaim", obj))

    def deleted(self, old: JsonObject) -> None:
        self._resolver.deleted(cast("ResourceClaim", old))


class _ClaimEvents:
    """Warnings on a claim and on the pods that wait for it."""

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder

    def warn(self, claim: ResourceClaim, problem: HamiDraError) -> None:
        for regarding in audience(claim):
            self._recorder.emit(regarding, event_type="Warning", reason=problem.reason, message=str(problem))


def start_controller(group: Group, options: ControllerOptions, transport: Transport) -> int:
    """Serve metrics and be a candidate; once elected, resolve claims.  Returns the port of the metrics."""
    registry = new_registry("controller")
    recorder = EventRecorder(transport, component="hami-dra-controller")
    resolver = ClaimResolver(
        writer=Claims(transport),
        events=_ClaimEvents(recorder),
        queue=WorkQueue[ClaimKey](),
        metrics=ControllerMetrics(registry),
    )
    claims = Reflector(transport, Collection(CLAIMS_PATH), _ClaimHandler(resolver))
    elector = Elector(transport, namespace=options.namespace, name=options.lease_name, identity=options.identity)

    def lead() -> None:
        recorder.start(group)
        claims.start(group, name="claims")
        resolver.run(group, workers=options.workers)

    def follow() -> None:
        if not group.stopping:
            raise LeadershipLostError(f"lease {options.namespace}/{options.lease_name} was lost; starting over")

    port = serve_http(group, port=options.metrics_port, registry=registry, ready=lambda: not group.stopping)
    elector.start(group, on_started=lead, on_stopped=follow)
    return port
