"""Numbered lines of an instance's log: the cutting of output into lines, and the window of kept lines; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import msgspec

# A longer line becomes several.
MOST_CHARACTERS = 8192
# The overhead of a line beside its text.
_OVERHEAD = 64


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line: its number, when it was read (seconds since 1970), `stdout` or `stderr`, and its text without its end."""

    n: int
    at: float
    stream: str
    text: str

    @property
    def size(self) -> int:
        """Return the line's part of a window's bytes."""
        return len(self.text) + _OVERHEAD


class Window:
    """The newest lines; their numbers have no gap.

    Args:
        most: lines that are kept.
        size: characters that are kept, with a little for each line.
        following: the number of the next line.
    """

    def __init__(self, most: int, size: int, following: int = 1) -> None:
        self._most, self._size = most, size
        self._lines: deque[Line] = deque()
        self._held = 0
        self.following = following

    @property
    def first(self) -> int:
        """Return the number of the oldest kept line; where there is none, of the next one."""
        return self._lines[0].n if self._lines else self.following

    @property
    def last(self) -> int:
        """Return the number of the newest line so far; 0 before the first."""
        return self.following - 1

    def take(self, lines: Sequence[Line], following: int | None = None) -> None:
        """Add lines, oldest first.

        Args:
            lines: where their numbers do not follow the kept ones, those are dropped: a reader then sees the gap.
            following: the next line's number, where it is not the one after the last.
        """
        if lines and lines[0].n != self.following:
            self._lines.clear()
            self._held = 0
        for line in lines:
            self._lines.append(line)
            self._held += line.size
        self.following = max(self.following, lines[-1].n + 1 if lines else 0)
        if following is not None and following > self.following:
            self._lines.clear()
            self._held = 0
            self.following = following
        while self._lines and (len(self._lines) > self._most or self._held > self._size):
            self._held -= self._lines.popleft().size

    def after(self, number: int, limit: int) -> list[Line]:
        """Return the lines with a higher number, oldest first, at most `limit`."""
        start = max(0, number + 1 - self.first)
        return list(islice(self._lines, start, start + limit))

    def newest(self, size: int) -> str:
        """Return the end of the log as text of at most `size` bytes, cut at a line where one fits."""
        chosen: list[str] = []
        left = size
        for line in reversed(self._lines):
            left -= len(line.text.encode()) + 1
            if left < 0:
                break
            chosen.append(line.text)
        return "".join(f"{text}\n" for text in reversed(chosen))

    def all(self) -> list[Line]:
        """Return all kept lines."""
        return list(self._lines)


def split(content: bytes, *, final: bool = False) -> tuple[list[str], int]:
    """Cut output into lines.

    Args:
        content: output from the beginning of a line.
        final: an unended rest is a line too, because nothing will follow.

    Returns:
        The lines, and their bytes; the rest begins the next ones. A piece that is too long for a line is
        not left over.
    """
    end = content.rfind(b"\n") + 1
    if final or len(content) - end > MOST_CHARACTERS:
        end = len(content)
    lines: list[str] = []
    whole = content[:end]
    for piece in whole.removesuffix(b"\n").split(b"\n") if whole else ():
        # NUL bytes are left where a file was truncated under a program that does not append.
        text = piece.decode("utf-8", errors="replace").replace("\0", "").rstrip("\r")
        lines.extend(
            text[start : start + MOST_CHARACTERS] for start in range(0, max(len(text), 1), MOST_CHARACTERS)
        )
    return lines, end
