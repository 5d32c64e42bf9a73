"""A client of nginx's data socket (docs/platform.md, "The router's two sockets")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from components.router.errors import NginxError
from components.router.routes import Endpoint

T = TypeVar("T")


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """`POST /routes`: the change from sequence `seq` - 1 to `seq`.

    Args:
        epoch: one run of the router process.
        seq: grows by one with every delta of an epoch.
        set: hosts with all their endpoints.
        delete: hosts that are no more.
        full: a part of the whole table; hosts that no part names are dropped at the last.
        part: from 0 within a whole table.
        more: another part follows.
    """

    epoch: str
    seq: int
    set: Mapping[str, Sequence[Endpoint]] = {}
    delete: Sequence[str] = []
    full: bool = False
    part: int = 0
    more: bool = False


class NginxState(msgspec.Struct, frozen=True):
    """The state of nginx: the epoch and the delta it has reached, and whether it was ever given a whole table."""

    epoch: str | None = None
    seq: int = 0
    loaded: bool = False


class Dump(msgspec.Struct, frozen=True):
    """`GET /routes`."""

    routes: dict[str, list[Endpoint]] = {}
    loaded: bool = False
    epoch: str | None = None


class Nginx:
    """A client of the data socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Get ready to call; connects to nothing yet."""
        # Always one connection: nginx counts it among its own, and it is subtracted again (`StatsReporter`).
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(self._socket), limit=1),
            timeout=aiohttp.ClientTimeout(total=30, sock_connect=2),
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def state(self) -> NginxState:
        """Return the state of nginx.

        Raises:
            NginxError: no answer, or one that cannot be read; the same for the other calls.
        """
        return await self._call("GET", "/state", NginxState)

    async def routes(self) -> Dump:
        """Return every route that nginx holds."""
        return await self._call("GET", "/routes", Dump)

    async def stats(self) -> dict[str, float]:
        """Return the counters."""
        return await self._call("GET", "/stats", dict[str, float])

    async def tell(self, seconds: float) -> None:
        """Have every WebSocket told to go elsewhere, spread over so many seconds; the order must be repeated. 0 ends it."""
        await self._call("POST", "/drain", dict[str, Any], msgspec.json.encode({"seconds": seconds}))

    async def push(self, delta: Delta) -> NginxState:
        """Send a delta.

        Raises:
            NginxError: with status 409 when nginx holds something else than this delta continues, 507 when its memory
                for routes is full.
        """
        return await self._call("POST", "/routes", NginxState, msgspec.json.encode(delta))

    async def _call(self, method: str, path: str, kind: type[T], body: bytes | None = None) -> T:
        if self._session is None:
            raise NginxError("the client is not open")
        options: dict[str, Any] = {} if body is None else {"data": body}
        try:
            async with self._session.request(method, f"http://nginx{path}", **options) as response:
                data = await response.read()
                status = response.status
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NginxError(f"nginx does not answer: {error or type(error).__name__}") from error
        if status != 200:
            raise NginxError(f"nginx answered {method} {path} with {status}: {data[:200]!r}", status)
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise NginxError(f"nginx answered {path} with something else: {error}") from error
