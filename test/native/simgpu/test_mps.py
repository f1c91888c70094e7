"""MPS on the simulated card: clients run at once, each on its part, as long as the control daemon lives."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from native.simgpu.node import MIB, Node, wait_until

RPC_FAILURE = 806
CONTROL = "nvidia-cuda-mps-control"


class Mps:
    """A daemon for the first card of a node."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.environment = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "p"), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
        self.program = node.root / "usr" / "bin" / CONTROL

    def ask(self, *lines: str) -> tuple[int, str]:
        """Status and words of the control program."""
        done = subprocess.run(
            [self.program],
            input="".join(f"{line}\n" for line in lines),
            env=self.node.environment(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    @contextmanager
    def running(self, uuid: str | None = None) -> Iterator["subprocess.Popen[bytes]"]:
        """The daemon, once it answers; gone after the block."""
        environment = self.node.environment(self.environment)
        environment["CUDA_VISIBLE_DEVICES"] = uuid or self.node.cards()[0]["uuid"]
        with subprocess.Popen([self.program, "-f", "-M"], env=environment) as daemon:
            try:
                wait_until(lambda: self.ask("get_server_list")[0] == 0, what="an answer of the daemon")
                yield daemon
            finally:
                daemon.kill()


@pytest.fixture
def mps(node: Node, tmp_path: Path) -> Mps:
    """A daemon that can be started."""
    return Mps(node, tmp_path)


def test_a_daemon_brings_its_card_into_the_mode_and_back(mps: Mps) -> None:
    """While it lives all processes of its card run at once; `quit` and SIGTERM take that back."""
    uuid = mps.node.cards()[1]["uuid"]
    with mps.running(uuid) as daemon:
        assert [card["mps"] for card in mps.node.cards()] == [False, True]
        assert mps.ask("quit") == (0, "")
        assert daemon.wait(10) == 0
    assert [card["mps"] for card in mps.node.cards()] == [False, False]
    with mps.running(uuid) as daemon:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
    assert not any(card["mps"] for card in mps.node.cards())
    status, said = mps.ask("get_server_list")
    assert (status, "Cannot find MPS control daemon process" in said) == (1, True)


def test_a_daemon_is_alone_in_its_directory_and_wants_a_card(mps: Mps) -> None:
    """A second one is refused, and so is one for a card that is not there."""
    with mps.running():
        again = mps.node.run([mps.program, "-f"], env=mps.environment)
        assert (again.status, "already running" in again.err) == (1, True)
    nobody = mps.node.run([mps.program, "-f"], env=mps.environment | {"CUDA_VISIBLE_DEVICES": "GPU-nobody"})
    assert (nobody.status, "no card" in nobody.err) == (1, True)
    assert mps.node.run([mps.program, "-d"], env=mps.environment).status == 1


def test_settings_are_read_back_and_wrong_ones_refused(mps: Mps) -> None:
    """Defaults, the server's own once there is one, and what is no setting."""
    with mps.running():
        assert mps.ask("get_default_active_thread_percentage") == (0, "100.0\n")
        assert mps.ask("set_default_active_thread_percentage 30", "set_default_device_pinned_mem_limit 0 1G") == (0, "")
        assert mps.ask("get_default_active_thread_percentage") == (0, "30.0\n")
        assert mps.ask("get_server_list") == (0, "")
        for wrong in (
            "set_default_active_thread_percentage 101",
            "set_default_device_pinned_mem_limit 0 much",
            "set_active_thread_percentage 1 30",
            "dance",
        ):
            assert mps.ask(wrong) == (0, f"Invalid command or value: {wrong}\n")


def test_a_client_is_held_to_the_smaller_of_its_wish_and_the_servers_limit(mps: Mps) -> None:
    """Memory beyond either is refused; without a daemon nobody is held to anything, as with the real driver."""

    def allocated(mib: int, **environment: str) -> bool:
        result = mps.node.run([mps.node.build / "exercise", "hold", str(mib * MIB)], env=mps.environment | environment)
        assert result.status in (0, 2), result.err
        return result.status == 0

    wish = {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=10M"}
    with mps.running():
        assert (allocated(20), allocated(20, **wish), allocated(8, **wish)) == (True, False, True)
        (server,) = mps.ask("get_server_list")[1].split()
        mps.ask(f"set_device_pinned_mem_limit {server} 0 5M")
        assert (allocated(8, **wish), allocated(4, **wish)) == (False, True)
    assert allocated(20, **wish)


def test_a_part_of_the_multiprocessors_takes_longer(mps: Mps) -> None:
    """A kernel that fills the card takes twice as long on half of it; beside it another half works at once."""
    workload, half = mps.node.build / "workload", {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"}

    def milliseconds(**environment: str) -> float:
        return float(mps.node.run([workload, "finish", "2000000", "5"], env=mps.environment | environment).out)

    assert milliseconds(**half) == pytest.approx(10.0, abs=0.01)
    with mps.running():
        assert milliseconds() == pytest.approx(10.0, abs=0.01)
        assert milliseconds(**half) == pytest.approx(20.0, abs=0.01)
        environment = mps.node.environment(mps.environment | half)
        command = [str(workload), "finish", "20000000", "10"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as beside:
            assert milliseconds(**half) == pytest.approx(20.0, abs=0.01)
            assert float(beside.communicate()[0]) == pytest.approx(400.0, abs=0.2)


def test_the_end_of_a_daemon_ends_its_clients(mps: Mps) -> None:
    """By whatever signal: a client's calls fail from then on."""
    command = [str(mps.node.build / "workload"), "hold", "1000000000"]
    environment = mps.node.environment(mps.environment)
    with (
        mps.running() as daemon,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client,
    ):
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        daemon.kill()
        daemon.wait()
        assert f"{RPC_FAILURE}" in client.communicate()[1]
        assert client.returncode != 0
