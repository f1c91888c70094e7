"""`hami-dra config check`: whether node plugins would accept a configuration, and what it has for a node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hami_dra.api.nodeconfig import decode_node_config
from hami_dra.api.strict import ConfigError
from hami_dra.core.node_config import entries_for_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hami_dra.api.nodeconfig import NodeConfig

__all__ = ["check_config"]


def check_config(file: str, *, labels: Mapping[str, str] | None) -> int:
    """Say it on standard output; the exit status: 0 accepted, 1 refused or not to be read.

    Args:
        file: its path, `-` for standard input.
        labels: of the node whose entries are to be shown, if any is.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        config = decode_node_config(text)
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        print(f"{file}: refused: {error}")
        return 1
    print(f"{file}: accepted, {len(config.entries)} entries")
    if labels is not None:
        for line in _chosen(config, labels):
            print(line)
    return 0


def _chosen(config: NodeConfig, labels: Mapping[str, str]) -> list[str]:
    chosen = entries_for_node(config, labels)
    lines = []
    for number, entry in enumerate(config.entries):
        if any(entry is each for each in chosen):
            said = entry.model_dump_json(by_alias=True, exclude_none=True, exclude={"name", "node_selector"})
            lines.append(f"entries.{number} {entry.name or ''}: {said}".replace(" :", ":"))
    return lines or ["no entry is for such a node"]
