"""The product on a cluster: what the demo, the e2e tests and the benchmarks do alike.

From the inside out: `waiting` and `kubectl` know nothing of the product; `helm` knows its chart, `simulated` the cards of a
node; `site` puts them together.  Nothing in here asserts: whoever uses it looks at what comes back.
"""

from hacklib.deployment.helm import NAMESPACE, Helm
from hacklib.deployment.kubectl import Kubectl, KubeObject, Refused
from hacklib.deployment.simulated import DRIVER_ROOT, Card, CardProcess
from hacklib.deployment.site import Models, Parts, Site, build_parts
from hacklib.deployment.waiting import wait_until

__all__ = [
    "DRIVER_ROOT",
    "NAMESPACE",
    "Card",
    "CardProcess",
    "Helm",
    "KubeObject",
    "Kubectl",
    "Models",
    "Parts",
    "Refused",
    "Site",
    "build_parts",
    "wait_until",
]
