"""The clock of the fault campaign: what a process with the library makes of a jump."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.clock import DAY_S, DECADE_S, HOUR_S, JumpFile, build_library

_LOOKS = """
import datetime, os, sys, time
for _line in sys.stdin:
    elsewhere = os.stat("/proc/self").st_ctime  # a file's time is the kernel's
    print(int(time.time() - elsewhere), int(datetime.datetime.now().timestamp() - elsewhere), int(time.monotonic()), flush=True)
"""
_WAITS = """
import ctypes, sys, time

class Moment(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

libc = ctypes.CDLL(None, use_errno=True)
kind, seconds, futex = sys.argv[1], int(sys.argv[2]), ctypes.c_long(int(sys.argv[3]))
first, second = ctypes.create_string_buffer(256), ctypes.create_string_buffer(256)
until = ctypes.byref(Moment(int(time.time()) + seconds, 0))
print("waits", flush=True)
status = 0
if kind == "semaphore":
    libc.sem_init(first, 0, 0)
    libc.sem_timedwait(first, until)
elif kind == "condition":
    libc.pthread_mutex_lock(second)
    while not status:
        status = libc.pthread_cond_timedwait(first, second, until)
else:
    bitset_of_the_wall_clock = ctypes.c_long(9 | 256)
    libc.syscall(futex, first, bitset_of_the_wall_clock, ctypes.c_long(0), until, None, ctypes.c_long(-1))
print(status or ctypes.get_errno(), flush=True)
"""
_FUTEX = {"x86_64": "202", "aarch64": "98"}
_ETIMEDOUT = 110


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library."""
    path = tmp_path_factory.mktemp("clock") / "clock.so"
    build_library(path)
    return path


class _Program:
    """A Python process with the library, and the file of its clock."""

    def __init__(self, process: subprocess.Popen[str], file: JumpFile) -> None:
        self._process = process
        self.file = file

    def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def look(self) -> list[int]:
        """By how much its two wall clocks are off, and its monotonic clock."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [int(word) for word in self.line().split()]


@contextmanager
def _program(library: Path, folder: Path, words: Sequence[str], *, offset_s: int = 0) -> Iterator[_Program]:
    path = folder / "jump"
    file = JumpFile(path)
    file.create()
    file.jump(offset_s)
    environment = os.environ | {"LD_PRELOAD": str(library), "HAMI_TEST_CLOCK": str(path)}
    with subprocess.Popen(
        [sys.executable, "-c", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield _Program(process, file)
        finally:
            process.kill()


def test_a_running_process_has_the_offset_of_now(library: Path, tmp_path: Path) -> None:
    """Every way to ask for the time of day jumps there and back, the monotonic clock does not, and what was off is counted."""
    with _program(library, tmp_path, [_LOOKS]) as program:
        *wall, start = program.look()
        assert all(abs(seconds) < HOUR_S for seconds in wall)
        assert program.file.answers == 0
        for offset_s in (-DAY_S, DAY_S, DECADE_S):
            before = program.file.answers
            program.file.jump(offset_s)
            *wall, monotonic = program.look()
            assert all(abs(seconds - offset_s) < HOUR_S for seconds in wall)
            assert start <= monotonic < start + HOUR_S
            assert program.file.answers >= before + 2
        program.file.jump(0)
        counted = program.file.answers
        *wall, _monotonic = program.look()
        assert all(abs(seconds) < HOUR_S for seconds in wall)
        assert program.file.answers == counted


@pytest.mark.parametrize("kind", ["semaphore", "condition", "futex"])
@pytest.mark.parametrize(("before_s", "after_s"), [(0, DAY_S), (-DECADE_S, 0)])
def test_a_jump_ahead_ends_a_wait(library: Path, tmp_path: Path, kind: str, before_s: int, after_s: int) -> None:
    """One until a moment of the wall clock an hour away, as the kernel does, whatever the clock showed when it began."""
    words = [_WAITS, kind, str(HOUR_S), _FUTEX[platform.machine()]]
    with _program(library, tmp_path, words, offset_s=before_s) as program:
        assert program.line() == "waits"
        program.file.jump(after_s)
        assert program.line() == str(_ETIMEDOUT)
