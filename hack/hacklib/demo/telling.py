"""How the demo speaks: chapters, what was seen, and which promises held."""

import sys
import time
from collections.abc import Iterable
from typing import TextIO

from hacklib.ui import HackError

__all__ = ["Telling"]

_BOLD, _GREEN, _RED, _DIM, _OFF = "\033[1m", "\033[32m", "\033[31m", "\033[2m", "\033[0m"


class Telling:
    """Prints the story and remembers its promises."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._colour = stream.isatty()
        self._started = time.monotonic()
        self._held: list[str] = []

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        self._line("")
        self._line(self._paint(_BOLD, f"▸ {title}"))

    def show(self, text: str | Iterable[str]) -> None:
        """What was seen, as it was seen."""
        for line in text.splitlines() if isinstance(text, str) else text:
            self._line(self._paint(_DIM, f"    {line}"))

    def holds(self, promise: str, *, seen: object, ok: bool) -> None:
        """A promise and what was seen of it.

        Raises HackError if it does not hold: a demo that tells what is not so ends here.
        """
        if not ok:
            self._line(f"  {self._paint(_RED, '✘')} {promise}: {seen}")
            raise HackError(f"the demo's promise does not hold: {promise}: {seen}")
        self._held.append(promise)
        self._line(f"  {self._paint(_GREEN, '✔')} {promise} {self._paint(_DIM, f'({seen})')}")

    def summary(self) -> None:
        """Every promise that held."""
        took = time.monotonic() - self._started
        self.chapter(f"{len(self._held)} promises held, in {took:.0f} s of story")
        for promise in self._held:
            self._line(f"  {self._paint(_GREEN, '✔')} {promise}")

    def say(self, text: str) -> None:
        """One plain line."""
        self._line(f"  {text}")

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_OFF}" if self._colour else text

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()
