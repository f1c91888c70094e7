"""What administrators write in the node configuration's ConfigMap: `NodeConfig`, decoded strictly.

`v1alpha1` holds the frozen model of that version; `text` reads YAML or JSON so that no duplicate key is lost; `decode` turns the
text of any served version into the model, or says what is wrong and where.  Defaults are not applied here: an absent field
stays `None`, so that entries can be merged field by field (`core.node_config`).
"""

from hami_dra.api.nodeconfig.decode import decode_node_config
from hami_dra.api.nodeconfig.v1alpha1 import (
    CardMode,
    DeviceSelector,
    Entry,
    LabelSelector,
    NodeConfig,
    Operator,
    Requirement,
    WatchdogPolicy,
)

__all__ = [
    "CardMode",
    "DeviceSelector",
    "Entry",
    "LabelSelector",
    "NodeConfig",
    "Operator",
    "Requirement",
    "WatchdogPolicy",
    "decode_node_config",
]
