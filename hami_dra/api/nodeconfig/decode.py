"""Strict decoding of `NodeConfig` from the text that a ConfigMap holds."""

from hami_dra.api.names import NODE_CONFIG_KIND
from hami_dra.api.nodeconfig.text import parse
from hami_dra.api.nodeconfig.v1alpha1 import NodeConfig
from hami_dra.api.strict import ConfigError, decode_kind

__all__ = ["decode_node_config"]


def decode_node_config(text: str) -> NodeConfig:
    """Decode YAML or JSON.

    Raises:
        ConfigError: not YAML, unknown version or kind, unknown field, wrong value, duplicate key.
    """
    try:
        value = parse(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return decode_kind(NodeConfig, value, kind=NODE_CONFIG_KIND, what="configuration")
