"""Requests while they arrive, before they get a thread (pure; bytes are arguments).

A slow or silent client costs only the bytes that it has sent: a short request is awaited completely, of a long one the
head. The parser decides whether the head is valid HTTP; this module reads only its length and a few of its fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

# Bodies up to this size are awaited completely; longer ones need a token. A router passes heads of 64 KB.
GATHERED, MAX_HEAD = 64 << 10, 80 << 10
# The bytes that the framing of chunks may add to a body.
_FRAMING = 8 << 10
_END = b"\r\n\r\n"
_SIZE = re.compile(rb"[0-9a-fA-F]+")
_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([0-9]{1,18})[ \t]*(?=\r\n)", re.IGNORECASE)
_FIELDS = {
    name: re.compile(rb"\r\n" + name.encode() + rb"[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
    for name in ("transfer-encoding", "expect", "x-forwarded-for")
}


class State(Enum):
    """The progress of a request."""

    HEAD = "the head is not complete"
    BODY = "the head is complete, the short body is not"
    WHOLE = "all of it is there"
    LONG = "the head is there, and the body is too long to be awaited"
    TOO_LARGE = "the head is larger than any may be"


@dataclass(slots=True)
class Arrival:
    """One request; `came` has the bytes that arrived of it, and perhaps of the next."""

    came: bytearray = field(default_factory=bytearray)
    state: State = State.HEAD
    _searched: int = 0
    _until: int = 0
    _chunked: bool = False
    # The start of the next chunk, whether the last has passed, and the start of the search for the end of the chunk's line.
    _chunk: int = 0
    _last: bool = False
    _unread: int = 0

    def take(self, more: bytes) -> State:
        """Add bytes that arrived; return the request's progress."""
        self.came += more
        if self.state is State.HEAD:
            self._read_head()
        if self.state is State.BODY:
            self._read_body()
        return self.state

    @property
    def path(self) -> str:
        """Return the target of a request whose head is complete."""
        words = self.came[: self.came.find(b"\r\n")].split(b" ", 2)
        return words[1].decode("latin-1") if len(words) == 3 else ""

    def says(self, name: str) -> bool:
        """Return whether the head has a field: `expect`, `transfer-encoding` or `x-forwarded-for`."""
        return _FIELDS[name].search(self.came, 0, self._searched) is not None

    def _read_head(self) -> None:
        while self.came.startswith(b"\r\n"):
            # Old clients end a body with a superfluous line end.
            del self.came[:2]
        found = self.came.find(_END, max(0, self._searched - len(_END) + 1))
        if found < 0:
            self._searched = len(self.came)
            if len(self.came) > MAX_HEAD:
                self.state = State.TOO_LARGE
            return
        # Including the line end before the empty line: fields are searched between line ends.
        self._searched = found + 2
        begins = found + len(_END)
        lengths = _LENGTH.findall(self.came, 0, self._searched)
        length = int(lengths[0]) if lengths else 0
        self._chunked = self.says("transfer-encoding")
        if not self._chunked and length > GATHERED:
            self.state = State.LONG
            return
        self._until = begins + (GATHERED + _FRAMING if self._chunked else length)
        self._chunk = self._unread = begins
        self.state = State.BODY

    def _read_body(self) -> None:
        if self._chunked:
            self._read_chunks()
        elif len(self.came) >= self._until:
            self.state = State.WHOLE

    def _read_chunks(self) -> None:
        """Skip the chunks that have arrived; an invalid one goes to the parser at once, which refuses it."""
        while not self._last and self._chunk < self._until and (ends := self._find(b"\r\n")) >= 0:
            size = bytes(self.came[self._chunk : ends].partition(b";")[0]).strip()
            if not _SIZE.fullmatch(size):
                self.state = State.WHOLE
                return
            length = int(size, 16)
            # Optional trailers follow the last chunk, up to an empty line.
            self._last = not length
            self._chunk = self._unread = ends if self._last else ends + 2 + length + 2
        if self._last and self._find(_END) >= 0:
            self.state = State.WHOLE
        elif max(self._chunk, len(self.came)) >= self._until:
            self.state = State.LONG

    def _find(self, what: bytes) -> int:
        found = self.came.find(what, self._unread)
        if found < 0:
            self._unread = max(self._unread, len(self.came) - len(what) + 1)
        return found
