"""The progress of a long operation: on a terminal in place, in a file a line for each step, with repeats for long ones."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

# In a file, an unchanged step is written again with its figures after so many seconds.
EVERY_SECONDS = 15.0
_CLEAR = "\r\x1b[K"


class ProgressWriter:
    """A writer of permanent lines, and of steps that change while they last."""

    def __init__(
        self, stream: TextIO | None = None, now: Callable[[], float] = time.monotonic, columns: int = 0
    ) -> None:
        """Begin with no output.

        Args:
            stream: the output; by default standard output at the time of writing.
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
        """Write a permanent line, now."""
        self.end()
        self._write(line + "\n")

    def step(self, words: str, figures: str = "") -> None:
        """Show the present step.

        Args:
            words: the step; other words are another step.
            figures: its progress, which changes all the time.
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
        """End the present step: the next output begins a line, and the same words would be another step."""
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
    """Split a step in one line into its words and the figures in brackets at its end.

    Returns:
        the words, and the figures or nothing.
    """
    words, _, figures = step.rpartition(" (")
    return (words, figures.removesuffix(")")) if words and figures.endswith(")") else (step, "")
