"""The life of a process of ours, in a process of its own."""

import json
import signal
import subprocess
import sys

import pytest

RUN = """
import sys
from hami_dra._lib.jsonlog import configure
from hami_dra.app.process import run_process
configure(level="info", stream=sys.stderr)
def fail():
    raise RuntimeError("the disk is on fire")
def start(group):
    group.spawn("work", {work})
    print("started", flush=True)
sys.exit(run_process("test", start))
"""


def run(work: str) -> "subprocess.Popen[str]":
    """A process whose one thread does `work`."""
    script = RUN.replace("{work}", work)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    """Status 0, and the log says that it stopped."""
    with run("lambda: group.wait()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert json.loads(log.splitlines()[-1])["message"] == "stopped"


def test_a_failed_thread_ends_it_with_its_cause() -> None:
    """Half a process never runs on: status 1, and the log has the cause."""
    with run("fail") as process:
        _, log = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the disk is on fire" in json.loads(log.splitlines()[-1])["traceback"]
