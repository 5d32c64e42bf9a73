"""Lines that say how a long operation goes: on a terminal in place, in a file each thing once and what takes long now and then."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

# In a file, what stays the same is said again with its figures after so many seconds.
EVERY_SECONDS = 15.0
_CLEAR = "\r\x1b[K"


class Progress:
    """Writes lines that stay, and steps that change while they last."""

    def __init__(
        self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic, columns: int = 0
    ) -> None:
        """Say nothing yet.

        Args:
            stream: where to; by default standard output as it is at that time.
            now: the clock.
            columns: a terminal's width; by default its own.
        """
        self._stream = stream
        self._now = now
        self._columns = columns
        self._words = ""
        self._said = 0.0
        self._open = False

    def say(self, line: str) -> None:
        """Write a line that stays, now."""
        self.end()
        self._write(line + "\n")

    def step(self, words: str, figures: str = "") -> None:
        """Say what is going on.

        Args:
            words: what; other words are another step.
            figures: how far it is, which changes all the time.
        """
        text = f"{words} ({figures})" if figures else words
        same = words == self._words
        if self._out.isatty():
            if not same:
                self.end()
            width = self._columns or shutil.get_terminal_size().columns
            self._write(_CLEAR + text[: width - 1])
            self._open = True
        elif not same or self._now() - self._said >= EVERY_SECONDS:
            self._write(text + "\n")
            self._said = self._now()
        self._words = words

    def end(self) -> None:
        """End the step that is going on: what is written next begins a line, and the same words would be another step."""
        if self._open:
            self._write("\n")
        self._open, self._words = False, ""

    @property
    def _out(self) -> TextIO:
        return self._stream or sys.stdout

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def parts(step: str) -> tuple[str, str]:
    """Split a step that was said as one line into its words and the figures in brackets at its end.

    Returns:
        the words, and the figures or nothing.
    """
    words, _, figures = step.rpartition(" (")
    return (words, figures.removesuffix(")")) if words and figures.endswith(")") else (step, "")
