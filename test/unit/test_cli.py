"""The command line."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hami_dra import __version__
from hami_dra.cli import main

NODE = ["node", "--node-name", "n", "--pod-uid", "u", "--namespace", "hami-system"]
CONTROLLER = ["controller", "--namespace", "n", "--identity", "i"]


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What the command line does to logging ends with the test: its stream is closed then."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """One place says what this is."""
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["node", "--pod-uid", "u"], "--node-name"),
        (["node", "--pod-uid", "u", "--node-name", "n"], "--namespace"),
        (["controller"], "--namespace"),
        ([*NODE, "--slots", "0"], "at least 1"),
        ([*NODE, "--metrics-port", "70000"], "not a port"),
        ([*NODE, "--source", "magic"], "invalid choice"),
        (["config", "check", "x", "--label", "pool"], "pool is not KEY=VALUE"),
    ],
)
def test_unusable_arguments_end_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the flag."""
    for name in ("NODE_NAME", "POD_UID", "POD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [NODE, CONTROLLER], ids=["node", "controller"])
def test_outside_of_a_pod_it_says_what_lacks(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """No cluster, no kubeconfig: status 1 and one line that says so."""
    assert main(arguments) == 1
    assert "give a kubeconfig instead" in capsys.readouterr().err


def test_an_unreadable_kubeconfig_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The message has the path."""
    assert main([*CONTROLLER, "--kubeconfig", "/nonexistent/config"]) == 1
    assert "/nonexistent/config" in capsys.readouterr().err


CONFIG = """
apiVersion: gpu.hami.io/v1alpha1
kind: NodeConfig
entries:
- {name: all, slots: 8}
- {nodeSelector: {matchLabels: {pool: a}}, mode: Whole}
"""


def test_a_good_configuration_is_accepted_before_it_is_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And whoever asks sees what it has for a node."""
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    assert main(["config", "check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: accepted, 2 entries\n"
    assert main(["config", "check", str(path), "--label", "pool=a", "--label", "zone=b"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ['entries.0 all: {"slots":8}', 'entries.1: {"mode":"Whole"}']
    path.write_text(CONFIG.replace("{name: all, slots: 8}", "{nodeSelector: {matchLabels: {pool: b}}}"))
    assert main(["config", "check", str(path), "--label", "pool=c"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["no entry is for such a node"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONFIG.replace("8", "many").encode(), "entries.0.slots: found"),
        (b"\xff", "utf-8"),
        (None, "No such file"),
    ],
)
def test_a_wrong_configuration_is_refused_before_it_is_applied(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With status 1 and the words of the node plugin; nothing that lies there is a traceback."""
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    assert main(["config", "check", str(path)]) == 1
    assert message in capsys.readouterr().out


def test_a_configuration_is_read_from_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From `kubectl get configmap … -o jsonpath`, say."""
    monkeypatch.setattr("sys.stdin", io.StringIO(CONFIG))
    assert main(["config", "check", "-"]) == 0
    assert capsys.readouterr().out == "-: accepted, 2 entries\n"
