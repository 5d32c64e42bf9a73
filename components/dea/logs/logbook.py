"""The logs of all instances and tasks of a DEA, and the readers that wait for new lines."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec

from components.common import log
from components.dea.logs.lines import Line
from components.dea.logs.spool import Bounds, Spool

# The number of lines for a reader that names none.
_MOST_LINES = 5000
_LONGEST_WAIT = 30.0
logger = log.get(__name__)


class _Shown(msgspec.Struct):
    """A line in the form for readers."""

    n: int
    at: float
    stream: str
    text: str


class Page(msgspec.Struct):
    """The answer of `GET /logs/INSTANCE`: `first` and `last` are the numbers of the kept lines."""

    instance: str
    first: int
    last: int
    lines: list[_Shown]


class LogBook:
    """The logs of instances and tasks.

    Args:
        directory: the folder of spools; made if missing.
        bounds: of each log.
    """

    def __init__(self, directory: Path, bounds: Bounds) -> None:
        self._directory, self._bounds = directory, bounds
        self._spools: dict[str, Spool] = {}
        # The logs that still grow; the others are only read.
        self._growing: set[str] = set()
        self._news = asyncio.Event()
        self._busy = asyncio.Lock()
        self._closed = False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def follow(self, name: str, folder: Path, uid: int | None, *, grows: bool = True) -> None:
        """Begin to keep a log, or continue that of an earlier agent.

        Args:
            name: the instance's or the task's id.
            folder: its own.
            uid: its own, where it has one.
            grows: False after its end.
        """
        async with self._busy:
            if name not in self._spools:
                self._spools[name] = await asyncio.to_thread(
                    Spool, folder, self._directory / name, uid, self._bounds
                )
        if grows:
            self._growing.add(name)

    async def look(self) -> None:
        """Read the lines written since the last look."""
        async with self._busy:
            found = await asyncio.to_thread(self._read, [n for n in self._growing if n in self._spools])
            self._take(found)

    async def finish(self, name: str) -> None:
        """Read the rest of an ended log; it stays readable."""
        async with self._busy:
            if name in self._growing:
                self._growing.discard(name)
                self._take(await asyncio.to_thread(self._read, [name], final=True))

    async def drop(self, name: str) -> None:
        """Forget a log."""
        async with self._busy:
            self._growing.discard(name)
            spool = self._spools.pop(name, None)
            if spool is not None:
                # The next agent removes a spool that cannot be removed now.
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(spool.remove)
            self._tell()

    async def tidy(self) -> None:
        """Remove the spools of unknown instances."""
        async with self._busy:
            for path in self._directory.iterdir():
                if path.name not in self._spools:
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)

    @property
    def unwritten(self) -> int:
        """Return how many logs the disk does not take; their lines can be read while this agent lives."""
        return sum(spool.unwritten for spool in self._spools.values())

    async def page(self, name: str, after: int, limit: int, wait: float) -> Page | None:
        """Return lines; None where there is no such log.

        Args:
            name: the instance's or the task's id.
            after: only lines with a higher number.
            limit: largest number of lines.
            wait: seconds to wait for one, where there is none yet.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (min(wait, _LONGEST_WAIT) if wait > 0 else 0)
        while (spool := self._spools.get(name)) is not None:
            news, left = self._news, deadline - loop.time()
            if spool.window.last > after or left <= 0 or self._closed:
                window = spool.window
                lines = window.after(after, min(max(limit, 0), _MOST_LINES))
                return Page(name, window.first, window.last, [_shown(line) for line in lines])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), left)
        return None

    def close(self) -> None:
        """Answer all waiting readers."""
        self._closed = True
        self._tell()

    def tail(self, name: str, size: int) -> str:
        """Return the end of a log as text of at most `size` bytes."""
        spool = self._spools.get(name)
        return "" if spool is None else spool.window.newest(size)

    def _read(self, names: list[str], *, final: bool = False) -> list[tuple[Spool, list[Line], int]]:
        return [(spool := self._spools[name], *spool.look(final=final)) for name in names]

    def _take(self, found: list[tuple[Spool, list[Line], int]]) -> None:
        changed = False
        for spool, lines, following in found:
            if following != spool.window.following:
                spool.window.take(lines, following)
                changed = True
        if changed:
            self._tell()

    def _tell(self) -> None:
        """Wake all waiting readers; later ones wait for the next event."""
        self._news.set()
        self._news = asyncio.Event()


def _shown(line: Line) -> _Shown:
    return _Shown(line.n, line.at, line.stream, line.text)
