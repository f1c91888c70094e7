"""What a tool says while it works, and how it ends.

On a terminal a task is one line that is redrawn; in a log it is a line at the start, one now and then while it lasts,
and one at its end, so that a CI job that is killed shows where it was.  No threads: a task is redrawn when its owner
has news.  Errors that a user can act upon are `HackError`; anything else is a bug and keeps its traceback.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

__all__ = ["HackError", "Task", "Ui", "run_logged", "run_main"]

_TERMINAL_INTERVAL_S = 0.1
_LOG_INTERVAL_S = 15.0
_TAIL_LINES = 30


class HackError(Exception):
    """A tool cannot go on, and its message says what was found, what was expected and what to do."""


class Task:
    """One piece of work in progress; made by `Ui.task`."""

    def __init__(self, *, title: str, stream: TextIO, clock: Callable[[], float]) -> None:
        self.title = title
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._started = clock()
        self._last_shown = self._started
        self._ended = False
        self._show("..." if self._terminal else "started")

    def update(self, text: str) -> None:
        """Show how far the task is, unless it was shown a moment ago."""
        interval = _TERMINAL_INTERVAL_S if self._terminal else _LOG_INTERVAL_S
        if self._clock() - self._last_shown >= interval:
            self._show(text)

    def done(self, text: str = "done") -> None:
        """Show the last line of the task; a second call does nothing."""
        if not self._ended:
            self._ended = True
            self._show(f"{text} ({self._clock() - self._started:.1f} s)", end="\n")

    def _show(self, text: str, *, end: str = "") -> None:
        self._last_shown = self._clock()
        line = f"{self.title}: {text}"
        if self._terminal:
            self._stream.write(f"\r\033[K{line[:150]}{end}")
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()


class Ui:
    """Prints progress to one stream, standard error by default: standard output belongs to results."""

    def __init__(self, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock

    def note(self, text: str) -> None:
        """Print one line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    @contextmanager
    def task(self, title: str) -> Iterator[Task]:
        """Show `title` as a task until the block ends; say `failed` if it ends by an exception."""
        task = Task(title=title, stream=self._stream, clock=self._clock)
        try:
            yield task
        except BaseException:
            task.done("failed")
            raise
        task.done()


def run_logged(
    command: Sequence[str | Path],
    *,
    log: Path,
    on_line: Callable[[str], None] = lambda _line: None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command with its output in `log` (appended), each line also given to `on_line`.

    Raises HackError with the end of the output if the command fails; kills the command if the caller is interrupted.
    """
    argv = [str(word) for word in command]
    lines: list[str] = []
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8") as out,
        subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        if process.stdout is None:
            raise AssertionError
        out.write(f"$ {' '.join(argv)}\n")
        try:
            for line in process.stdout:
                out.write(line)
                lines = [*lines[-_TAIL_LINES:], line]
                on_line(line.rstrip("\n"))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise HackError(
            f"{' '.join(argv[:4])} ... failed with status {process.returncode} (whole output: {log}):\n{''.join(lines)}"
        )


def run_main(main: Callable[[], int]) -> int:
    """Call a script's main function; turn a HackError into one message and status 1, and Ctrl-C into status 130."""
    try:
        return main()
    except HackError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
