"""The command line."""

import logging
from collections.abc import Iterator

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
