"""A Kubernetes API server in memory: see `server`."""

from hami_dra.testing.apiserver.faults import RESET
from hami_dra.testing.apiserver.server import FakeApiServer, Request

__all__ = ["RESET", "FakeApiServer", "Request"]
