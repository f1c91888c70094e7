"""The cluster-wide service: resolves claims into what their shares mean, and says so where users look.

It is an explainer, not a gatekeeper: nodes compute the same from the same inputs and never wait for it.
"""

from hami_dra.controller.resolver import ClaimEvents, ClaimKey, ClaimResolver, ClaimStatusWriter, ControllerMetrics

__all__ = ["ClaimEvents", "ClaimKey", "ClaimResolver", "ClaimStatusWriter", "ControllerMetrics"]
