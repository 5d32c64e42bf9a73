"""The log of one staging task: bounded, cleaned, without passwords; pure."""

from __future__ import annotations

import re
from collections import deque

LONGEST_LINE = 2000
# Lines sent to readers, and the size of the reply; NATS takes messages of 1 MB, and JSON needs room for escapes.
MOST_SENT = 1024 * 1024
MOST_KEPT = 128 * 1024
TAIL_LINES = 20
_ANSI = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\ud800-\udfff]")
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def clean(line: str) -> str:
    """Return a line fit to be shown: no terminal codes, no control characters, no password in an address, bounded."""
    # A progress bar rewrites its line: only its last state counts.
    line = line.rstrip("\r\n").rpartition("\r")[2]
    line = _USERINFO.sub("***@", _CONTROL.sub("", _ANSI.sub("", line)))
    return line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " ..."


class StagingLog:
    """A collection of lines; the first and the last are kept when there are too many."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._head_size = 0
        self._tail_size = 0
        self._sent = 0
        self._left_out = 0
        self.count = 0

    def add(self, line: str) -> str | None:
        """Add a line; return it, cleaned, if it is still to be sent to readers, else None."""
        line = clean(line)
        self.count += 1
        size = len(line.encode()) + 1
        if not self._tail and self._head_size + size <= MOST_KEPT // 2:
            self._head.append(line)
            self._head_size += size
        else:
            self._tail.append(line)
            self._tail_size += size
            while self._tail_size > MOST_KEPT // 2:
                self._tail_size -= len(self._tail.popleft().encode()) + 1
                self._left_out += 1
        before = self._sent
        self._sent += size
        if self._sent <= MOST_SENT:
            return line
        return "... (more lines follow; they are not shown)" if before <= MOST_SENT else None

    def text(self) -> str:
        """Return the whole log, or its beginning and its end."""
        gap = [f"... ({self._left_out} lines left out)"] if self._left_out else []
        return "\n".join([*self._head, *gap, *self._tail])

    def tail(self) -> str:
        """Return the last lines, for an error's text."""
        return "\n".join([*self._head, *self._tail][-TAIL_LINES:])
