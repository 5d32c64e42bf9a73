"""The log of one instance: its files are read, numbered, and kept bounded together with the numbered lines. Blocks.

The files are the application's: none is read or cut that is a link, has a second name, or belongs to another uid. The
numbered lines are kept in a file of the agent's (the spool), so that the next agent goes on where this one stopped: a
batch of lines counts when the record of how far was read stands behind it, and no reader gets a line before.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from prometheus_client import Counter

from components.common import log
from components.common.filesystem.files import write_atomically
from components.common.filesystem.plain_files import open_folder, open_plain
from components.dea.logs.lines import Line, Window, split

LINES = Counter("ingot_dea_log_lines_total", "Lines that instances wrote to their logs.")
DROPPED = Counter(
    "ingot_dea_log_lines_dropped_total", "Lines numbered but not kept: written faster than read."
)
# The agent's own messages to the owner go to err.log.
FILES = {"stdout.log": "stdout", "stderr.log": "stderr", "err.log": "stderr"}
# The cut-off part of a file that is too long lies beside it, half as long.
_OLDER = ".1"
_CHUNK = 1024 * 1024
# Of a file that grew by more than one read, lines are counted up to this size and estimated beyond.
_MOST_COUNTED = 16 * _CHUNK
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a log: lines, their bytes, bytes of one log file, and bytes of one read."""

    lines: int = 2000
    size: int = 512 * 1024
    file: int = 8 * _CHUNK
    once: int = 256 * 1024


class _Place(msgspec.Struct, array_like=True):
    """The read position in a file."""

    inode: int = 0
    offset: int = 0


class _Reached(msgspec.Struct):
    """The record that ends each batch in the spool."""

    places: dict[str, _Place]
    following: int


class Spool:
    """The log of one instance.

    Args:
        directory: the instance's.
        path: the spool; read if it is there.
        uid: of the instance; None where it has none of its own.
        bounds: what is kept.
    """

    def __init__(self, directory: Path, path: Path, uid: int | None, bounds: Bounds) -> None:
        self._directory, self._path, self._uid, self._bounds = directory, path, uid, bounds
        self._places: dict[str, _Place] = {}
        # Set where the spool on the disk is not as it should be: it is written anew.
        self._stale = True
        # The last write failed.
        self.unwritten = False
        self.window = Window(bounds.lines, bounds.size)
        self._load()
        self._following = self.window.following

    def look(self, *, final: bool = False) -> tuple[list[Line], int]:
        """Read new output, and add it to the spool.

        Args:
            final: nothing will follow; an unended rest is a line.

        Returns:
            The arguments of `Window.take`: the lines, and the number that follows.
        """
        lines: list[Line] = []
        places = dict(self._places)
        for name, stream in FILES.items():
            with contextlib.suppress(OSError):
                lines = self._read(name, stream, places, lines, final=final)
        if lines or places != self._places:
            self._places = places
            self._write(lines)
        return lines, self._following

    def remove(self) -> None:
        """Remove the spool."""
        self._path.unlink(missing_ok=True)

    def _read(
        self, name: str, stream: str, places: dict[str, _Place], before: list[Line], *, final: bool
    ) -> list[Line]:
        """Read one file; return all lines of this look that are worth keeping."""
        place = places.get(name, _Place())
        facts = os.lstat(self._directory / "logs" / name)
        if (facts.st_ino, facts.st_size) == (place.inode, place.offset):
            return before
        with contextlib.ExitStack() as handles:
            handle = self._open(name, handles)
            too_long = os.fstat(handle).st_size > self._bounds.file
            if too_long:
                self._put_aside(name, handle, handles)
            facts = os.fstat(handle)
            offset = place.offset if place.inode == facts.st_ino and place.offset <= facts.st_size else 0
            offset = _data(handle, offset)
            skipped = max(0, facts.st_size - offset - self._bounds.once)
            missed = _newlines(handle, offset, skipped) if skipped else 0
            if missed:
                # The window would have a gap: lines read before it in this look are part of the missed ones.
                self._following += missed
                DROPPED.inc(missed + len(before))
                before = []
            offset += skipped
            texts, used = split(_pread(handle, offset, facts.st_size - offset), final=final or too_long)
            if too_long:
                # Programs that append continue at its beginning.
                os.ftruncate(handle, 0)
            places[name] = _Place(facts.st_ino, 0 if too_long else offset + used)
        now = round(time.time(), 3)
        new = [Line(n, now, stream, text) for n, text in enumerate(texts, self._following)]
        self._following += len(new)
        LINES.inc(len(new) + missed)
        return (before + new)[-self._bounds.lines :]

    def _open(self, name: str, handles: contextlib.ExitStack) -> int:
        """Open a log file of the application's.

        Raises:
            OSError: it is no plain file, or not the application's alone.
        """
        logs = _opened(open_folder(self._directory / "logs"), handles)
        handle = _opened(open_plain(name, os.O_RDWR, above=logs), handles)
        if self._uid is not None and os.fstat(handle).st_uid not in (self._uid, 0):
            raise PermissionError(name)
        return handle

    def _put_aside(self, name: str, handle: int, handles: contextlib.ExitStack) -> None:
        """Keep the end of a file that is to be emptied in a file beside it."""
        size = os.fstat(handle).st_size
        start = max(0, size - self._bounds.file // 2)
        logs = _opened(open_folder(self._directory / "logs"), handles)
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name + _OLDER, dir_fd=logs)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            older = _opened(os.open(name + _OLDER, flags, 0o600, dir_fd=logs), handles)
            if self._uid is not None:
                os.fchown(older, self._uid, self._uid)
            while start < size and (chunk := os.pread(handle, min(_CHUNK, size - start), start)):
                os.write(older, chunk)
                start += len(chunk)

    def _load(self) -> None:
        try:
            content = self._path.read_bytes()
        except OSError:
            return
        batch: list[Line] = []
        reached: _Reached | None = None
        for record in content.splitlines():
            try:
                if record.startswith(b"["):
                    batch.append(msgspec.json.decode(record, type=Line))
                    continue
                reached = msgspec.json.decode(record, type=_Reached)
            except msgspec.MsgspecError:
                # The end of a write that a power loss cut off.
                break
            self.window.take(batch, reached.following)
            batch = []
        if reached is None:
            # The last number is unknown; the time in seconds is one that no log has reached.
            self.window.following = int(time.time())
            logger.warning("log_spool_unreadable", spool=self._path.name)
        else:
            self._places = reached.places
            self._stale = False

    def _write(self, lines: list[Line]) -> None:
        reached = msgspec.json.encode(_Reached(self._places, self._following))
        try:
            if self._stale or self._long():
                kept = Window(self._bounds.lines, self._bounds.size, self.window.following)
                kept.take(self.window.all() + lines if _follow(self.window, lines) else lines)
                write_atomically(self._path, _records(kept.all(), reached))
            else:
                with self._path.open("ab", buffering=0) as file:
                    file.write(_records(lines, reached))
        except OSError as error:
            # A full disk does not stop reading; the numbers are safe again with the next write that succeeds.
            self._stale = True
            if not self.unwritten:
                logger.warning("log_spool_not_written", spool=self._path.name, reason=error.strerror)
            self.unwritten = True
        else:
            self._stale = self.unwritten = False

    def _long(self) -> bool:
        # Text of one character may take six bytes, so this is no exact science.
        try:
            return self._path.stat().st_size > 4 * self._bounds.size
        except OSError:
            return True


def _opened(handle: int, handles: contextlib.ExitStack) -> int:
    handles.callback(os.close, handle)
    return handle


def _follow(window: Window, lines: list[Line]) -> bool:
    return not lines or lines[0].n == window.following


def _records(lines: list[Line], reached: bytes) -> bytes:
    return b"\n".join([*(msgspec.json.encode(line) for line in lines), reached, b""])


def _newlines(handle: int, offset: int, size: int) -> int:
    """Count the lines of a stretch; beyond the first part, estimate."""
    counted = 0
    end = offset + min(size, _MOST_COUNTED)
    at = offset
    while at < end and (chunk := os.pread(handle, min(_CHUNK, end - at), at)):
        counted += chunk.count(b"\n")
        at += len(chunk)
    read = max(1, at - offset)
    return counted if read >= size else counted * size // read


def _data(handle: int, offset: int) -> int:
    """Skip a hole, which a program that does not append leaves when its file is cut."""
    try:
        return os.lseek(handle, offset, os.SEEK_DATA)
    except OSError:
        return offset


def _pread(handle: int, offset: int, size: int) -> bytes:
    chunks = []
    while size > 0 and (chunk := os.pread(handle, min(_CHUNK, size), offset)):
        chunks.append(chunk)
        offset += len(chunk)
        size -= len(chunk)
    return b"".join(chunks)
