"""Files and logs of instances over HTTP, with basic auth (protocol 4.9; `/logs/<instance>` is ours: docs/platform.md).

The agent is root and the files are the applications': a path is resolved, judged, and then opened part by part without
following a link, so that one swapped in between leads nowhere.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote

import msgspec
from aiohttp import web

from components.common import log
from components.common.filesystem.plain_files import open_folder
from components.common.probes import authorised
from components.dea.logs.logbook import LogBook

_SHOWN_AT_ROOT = frozenset({"app", "logs", "tomcat"})
_NEVER_SHOWN = frozenset({"startup", "stop"})
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_CHUNK = 256 * 1024
_BIND_TRIES = 5
_SHUTDOWN_SECONDS = 2.0
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
logger = log.get(__name__)


class _Asked(msgspec.Struct):
    """The query of `/logs/INSTANCE`."""

    after: int = 0
    limit: int = 1000
    wait: float = 0


class FileServer:
    """The HTTP server of instances' folders.

    Args:
        host: its address.
        port: 0 takes any.
        find: returns an instance's folder by its `staged` name; None for one that is not here.
        logs: the numbered lines.
        credentials: user and password.
    """

    def __init__(
        self,
        host: str,
        port: int,
        find: Callable[[str], Path | None],
        logs: LogBook,
        credentials: list[str],
    ) -> None:
        self._host, self.port = host, port
        self._find = find
        self._logs = logs
        self._credentials = credentials
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; a port that is still taken by an earlier agent is tried again.

        Raises:
            OSError: it stays taken.
        """
        app = web.Application()
        app.router.add_get("/droplets/{staged}", self._guarded(self._serve))
        app.router.add_get("/droplets/{staged}/{path:.*}", self._guarded(self._serve))
        app.router.add_get("/logs/{instance}", self._guarded(self._lines))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await self._runner.setup()
        for attempt in range(1, _BIND_TRIES + 1):
            try:
                await web.TCPSite(self._runner, self._host, self.port).start()
                break
            except OSError:
                if attempt == _BIND_TRIES:
                    raise
                await asyncio.sleep(1)
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _guarded(self, handler: _Handler) -> _Handler:
        async def guard(request: web.Request) -> web.StreamResponse:
            if not authorised(request.headers.get("Authorization"), *self._credentials):
                headers = {"WWW-Authenticate": 'Basic realm="ingot"'}
                return web.Response(status=401, headers=headers, text="denied\n")
            return await handler(request)

        return guard

    async def _lines(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = msgspec.convert(dict(request.query), _Asked, strict=False)
        except msgspec.ValidationError as error:
            return web.Response(status=400, text=f"{error}\n")
        page = await self._logs.page(request.match_info["instance"], asked.after, asked.limit, asked.wait)
        if page is None:
            return _not_found()
        return web.Response(body=msgspec.json.encode(page), content_type="application/json")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        root = self._find(request.match_info["staged"])
        if root is None:
            return _not_found()
        # Clients of 2011 encode slashes within the path.
        path = unquote(request.match_info.get("path", ""))
        try:
            return await self._answer(request, root, path)
        except PermissionError:
            return web.Response(status=403, text="Not permitted\n")
        except ConnectionError:
            # The client went away in the middle of the answer.
            raise
        except OSError:
            return _not_found()

    async def _answer(self, request: web.Request, root: Path, path: str) -> web.StreamResponse:
        handle, at_root = await asyncio.to_thread(open_inside, root, path)
        try:
            facts = os.fstat(handle)
            if stat.S_ISDIR(facts.st_mode):
                return web.Response(text=await asyncio.to_thread(listing, handle, at_root), charset="utf-8")
            if not stat.S_ISREG(facts.st_mode):
                raise PermissionError(path)
            return await _send(request, handle, facts.st_size)
        finally:
            os.close(handle)


def open_inside(root: Path, path: str) -> tuple[int, bool]:
    """Open a file or folder of an instance. Blocks.

    Returns:
        A descriptor, and whether it is the instance's own folder.

    Raises:
        PermissionError: `..`, the scripts `startup` and `stop`, or a link that leaves the folder.
        OSError: there is no such file.
    """
    wanted = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in wanted or "\0" in path or _NEVER_SHOWN & set(wanted):
        raise PermissionError(path)
    base = Path(os.path.realpath(root))
    real = Path(os.path.realpath(base.joinpath(*wanted)))
    if not real.is_relative_to(base):
        raise PermissionError(path)
    inside = real.relative_to(base)
    if _NEVER_SHOWN & set(inside.parts):
        raise PermissionError(path)
    if inside.parts and inside.parts[0] not in _SHOWN_AT_ROOT:
        raise FileNotFoundError(path)
    handle = open_folder(base)
    for part in inside.parts:
        try:
            deeper = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
        finally:
            os.close(handle)
        handle = deeper
    return handle, not inside.parts


def listing(handle: int, at_root: bool) -> str:
    """Return the listing of an open folder: a line per entry, name in 35 columns, size in 10; no dot files. Blocks."""
    lines = []
    for name in sorted(os.listdir(handle)):
        if name.startswith(".") or (at_root and name not in _SHOWN_AT_ROOT) or name in _NEVER_SHOWN:
            continue
        try:
            facts = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except OSError:
            continue
        folder = stat.S_ISDIR(facts.st_mode)
        size = "-" if folder else human(facts.st_size)
        # A name of other bytes, or one that would end its line, is shown with marks in their place.
        shown = _UNPRINTABLE.sub("?", name.encode(errors="replace").decode())
        lines.append(f"{shown + '/' if folder else shown:<35} {size:>10}\n")
    return "".join(lines)


def human(size: int) -> str:
    """Return a size as `12B`, `1.5K`, `2.0M` or `1.0G`."""
    if size < 1024:
        return f"{size}B"
    value = float(size)
    for unit in "KMG":
        value /= 1024
        if value < 1024 or unit == "G":
            break
    return f"{value:.1f}{unit}"


def _not_found() -> web.Response:
    return web.Response(status=404, text="Not found\n")


async def _send(request: web.Request, handle: int, size: int) -> web.StreamResponse:
    try:
        wanted = request.http_range
    except ValueError:
        wanted = slice(0, size)
    start, stop, _step = wanted.indices(size)
    partial = (wanted.start, wanted.stop) != (None, None)
    headers = {"Accept-Ranges": "bytes"}
    if partial:
        if start >= stop:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response = web.StreamResponse(status=206 if partial else 200, headers=headers)
    response.content_type = "text/plain" if request.path.endswith(".log") else "application/octet-stream"
    response.content_length = stop - start
    await response.prepare(request)
    while start < stop:
        chunk = await asyncio.to_thread(os.pread, handle, min(_CHUNK, stop - start), start)
        if not chunk:
            break
        await response.write(chunk)
        start += len(chunk)
    return response
