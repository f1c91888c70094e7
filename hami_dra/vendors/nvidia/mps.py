"""Runs `nvidia-cuda-mps-control` of the driver root: a daemon in the foreground, and the program that talks to it.

The daemon serves the clients of one device.  `-M` lets clients of all users share one server; without it, each change of user
would wait for the clients of the user before (NVIDIA, MPS, 4.1).  libcuda is preloaded for the reason that `time_slices` gives.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hami_dra.core.errors import DriverError
from hami_dra.core.ids import GpuUuid
from hami_dra.vendors.nvidia.driver_root import Root

__all__ = ["MpsDaemon", "MpsPrograms"]

_PROGRAM = "nvidia-cuda-mps-control"
_CUDA = "libcuda.so.1"
_ASK_S = 5.0
_END_S = 5.0
_MOST_SAID = 300


class MpsDaemon:
    """A running daemon."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", *, program: str, environment: dict[str, str], log: Path
    ) -> None:
        """Made by `MpsPrograms.start`."""
        self._process = process
        self._program = program
        self._environment = environment
        self._log = log

    @property
    def pid(self) -> int:
        """As this process's pid namespace has it."""
        return self._process.pid

    def ended(self) -> str | None:
        """How it ended, for people; None while it runs."""
        status = self._process.poll()
        if status is None:
            return None
        self._sweep()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        said = self._said()
        return f"{_PROGRAM} {how}" + (f": {said}" if said else "")

    def ask(self, lines: Sequence[str]) -> str | None:
        """What it answers to these commands; None where it does not answer (yet)."""
        try:
            ran = subprocess.run(
                [self._program],
                input="".join(f"{line}\n" for line in lines),
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_ASK_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return None if ran.returncode else ran.stdout

    def stop(self) -> None:
        """End it: by its own command, else by force."""
        if self._process.poll() is None and self.ask(["quit"]) is None:
            self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._sweep()

    def _sweep(self) -> None:
        """End the servers that a daemon leaves which was killed: their clients are nobody's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _said(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return lines[-1][:_MOST_SAID] if lines else ""


class MpsPrograms:
    """Starts daemons."""

    def __init__(self, driver: Root) -> None:
        """`driver` has the programs."""
        self._driver = driver

    def start(self, device: GpuUuid, *, pipes: Path, logs: Path) -> MpsDaemon:
        """Start a daemon for one card or partition.

        Raises:
            DriverError: it cannot be started.
        """
        program = self._driver.find_program(_PROGRAM)
        environment = os.environ | {
            "PATH": f"{program.parent}:{os.environ.get('PATH', os.defpath)}",
            "LD_PRELOAD": str(self._driver.find_library(_CUDA)),
            "CUDA_VISIBLE_DEVICES": device,
            "CUDA_MPS_PIPE_DIRECTORY": str(pipes),
            "CUDA_MPS_LOG_DIRECTORY": str(logs),
        }
        log = logs / "daemon.log"
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [str(program), "-f", "-M"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise DriverError(f"{program} cannot be run: {error.strerror}") from error
        return MpsDaemon(process, program=str(program), environment=environment, log=log)
