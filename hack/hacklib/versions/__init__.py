"""The e2e suite on every Kubernetes that is supported, and what came of it.

`configurations` says which there are, `capabilities` asks an API server what it keeps, `record` is what one run of the suite
leaves behind, `page` makes docs/versions.md of the records, `cli` is `hack/versions`.  The tests use the first three; the records
are committed, so that the page can be made again, and compared, without a cluster.
"""

from hacklib.versions.capabilities import Capability, probe
from hacklib.versions.configurations import CONFIGURATIONS, Configuration, configuration

__all__ = ["CONFIGURATIONS", "Capability", "Configuration", "configuration", "probe"]
