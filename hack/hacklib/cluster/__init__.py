"""Real Kubernetes clusters in throw-away namespaces.

From the outside in: `cluster.Cluster` is what scripts and tests use; `launch` starts and ends clusters by way of a
`keeper` on the host, which runs a `control_plane` in namespaces of its own, which runs one `node` in each of its own.
`processes` is the loop at the top of the latter two; `components`, `pki`, `network`, `node_files` and `cgroups` say
what they start and on what ground.  Invariant: when any of keeper and control plane ends, everything ends and nothing
is left.
"""

from hacklib.cluster.cluster import Cluster
from hacklib.cluster.spec import NodeMount, parse_gates

__all__ = ["Cluster", "NodeMount", "parse_gates"]
