"""The node configuration that was in force last, on disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.core.errors import NodeStateError
from hami_dra.core.node_config import Remembered
from hami_dra.host.last_config import LastConfig

KEPT = Remembered(text="kind: NodeConfig\n", labels={"example.com/pool": "a"})


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """By another process too; the last word counts."""
    path = tmp_path / "node-config.json"
    assert LastConfig(path).load() is None
    LastConfig(path).save(Remembered(text="older", labels={}))
    LastConfig(path).save(KEPT)
    assert LastConfig(path).load() == KEPT
    LastConfig(path).forget()
    LastConfig(path).forget()
    assert LastConfig(path).load() is None


@given(data=st.binary(max_size=40) | st.sampled_from([b"[]", b'{"text": "a"}', b'{"text": "a", "labels": 3}', b"null"]))
def test_a_damaged_file_is_as_good_as_none(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever lies there, the node plugin starts."""
    path = tmp_path_factory.mktemp("state") / "node-config.json"
    path.write_bytes(data)
    assert LastConfig(path).load() is None


def test_a_state_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    """The caller decides that life goes on."""
    with pytest.raises(NodeStateError, match=r"gone/node-config\.json"):
        LastConfig(tmp_path / "gone" / "node-config.json").save(KEPT)
