"""The reader of instances' numbered lines from their DEAs, concurrently and for a bounded time (docs/platform.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import aiohttp
import msgspec

from components.common import log
from components.common.bus.messages import FoundDroplet
from components.controller.logs.merge import (
    MOST_LINES,
    Line,
    Reading,
    Source,
    Window,
    merge,
    newest,
    share,
)
from components.controller.requests.thread_limits import Places

# The time that a DEA may take beyond the requested wait.
ANSWER_SECONDS = 2.0
# The time that the other instances get after the first has lines.
JOIN_SECONDS = 0.15
LONGEST_WAIT = 10.0
LARGEST_ANSWER = 8 << 20
_PAUSE = 0.5
logger = log.get(__name__)
_decode = msgspec.json.Decoder(Window).decode


def source(found: FoundDroplet) -> Source:
    """Return the source of the lines of an instance that a DEA has found."""
    user, password = [*found.credentials, "", ""][:2]
    return Source(found.instance, found.index, found.log_uri, user, password)


class LogReader:
    """The reader of lines from DEAs.

    Args:
        room: places for requests that wait for lines; without a free place the answer has the present lines.
    """

    def __init__(self, room: Places) -> None:
        self._room = room

    def tail(self, sources: Iterable[Source], count: int) -> Reading:
        """Return the newest lines of all sources together."""
        known = list(sources)
        return newest(asyncio.run(_tails(known, count)), count)

    def follow(self, sources: Iterable[Source], place: Mapping[str, int], wait: float) -> Reading:
        """Return the lines after a reader's place; wait up to `wait` seconds for the first."""
        known = list(sources)
        if not wait or not self._room.take():
            return merge(place, asyncio.run(_after(known, place, 0)))
        try:
            began = time.monotonic()
            reading = merge(place, asyncio.run(_after(known, place, wait)))
            # A source that answers at once, although it was asked to wait, must not cause a busy loop.
            left = wait - (time.monotonic() - began)
            if not reading.lines and left > 0:
                time.sleep(min(left, _PAUSE))
            return reading
        finally:
            self._room.give_back()


async def _tails(sources: list[Source], count: int) -> list[tuple[Source, Window]]:
    async with _session() as session:

        async def one(source: Source) -> tuple[Source, Window] | None:
            state = await _ask(session, source, after=0, limit=1, wait=0)
            if state is None or not count:
                return None if state is None else (source, msgspec.structs.replace(state, lines=[]))
            after = max(state.last - count, state.first - 1, 0)
            window = await _ask(session, source, after=after, limit=count, wait=0)
            return None if window is None else (source, _cut(window, count, newest_first=True))

        return await _gather([asyncio.create_task(one(s)) for s in sources], ANSWER_SECONDS, join=False)


async def _after(sources: list[Source], place: Mapping[str, int], wait: float) -> list[tuple[Source, Window]]:
    limit = share(len(sources))
    async with _session() as session:

        async def one(source: Source) -> tuple[Source, Window] | None:
            after = place.get(source.instance, 0)
            window = await _ask(session, source, after=after, limit=limit, wait=wait)
            return None if window is None else (source, _cut(window, limit, newest_first=False))

        tasks = [asyncio.create_task(one(s)) for s in sources]
        return await _gather(tasks, wait + ANSWER_SECONDS, join=bool(wait))


async def _gather(
    tasks: list[asyncio.Task[tuple[Source, Window] | None]], seconds: float, *, join: bool
) -> list[tuple[Source, Window]]:
    """Return the collected answers; with `join`, the first with lines ends the wait for the others. Late ones are left out."""
    deadline = time.monotonic() + seconds
    waiting = set(tasks)
    found: list[tuple[Source, Window]] = []
    while waiting and (left := deadline - time.monotonic()) > 0:
        done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            answer = task.result()
            if answer is None:
                continue
            found.append(answer)
            if join and answer[1].lines:
                deadline = min(deadline, time.monotonic() + JOIN_SECONDS)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return found


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)


async def _ask(
    session: aiohttp.ClientSession, source: Source, *, after: int, limit: int, wait: float
) -> Window | None:
    """Return a source's window; None where the instance is gone or its DEA does not answer."""
    if urlsplit(source.uri).scheme not in ("http", "https"):
        return None
    timeout = aiohttp.ClientTimeout(total=wait + ANSWER_SECONDS, connect=1)
    params = {"after": str(after), "limit": str(limit), "wait": f"{wait:g}"}
    auth = aiohttp.BasicAuth(source.user, source.password)
    try:
        async with session.get(
            source.uri, params=params, auth=auth, timeout=timeout, allow_redirects=False
        ) as answer:
            if answer.status != 200:
                return None
            raw = await answer.content.read(LARGEST_ANSWER)
            while not answer.content.at_eof() and len(raw) < LARGEST_ANSWER:
                raw += await answer.content.read(LARGEST_ANSWER - len(raw))
        return _decode(raw)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        logger.info("log_not_read", instance=source.instance, reason=type(error).__name__)
        return None


def _cut(window: Window, limit: int, *, newest_first: bool) -> Window:
    """Return a window with no more lines than requested, whatever the DEA sent."""
    lines: list[Line] = sorted(window.lines, key=lambda line: line.n)
    most = min(limit, MOST_LINES)
    return msgspec.structs.replace(window, lines=lines[-most:] if newest_first else lines[:most])
