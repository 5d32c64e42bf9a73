"""The answer to nginx's question about an unknown host (docs/platform.md, "The router's two sockets")."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from prometheus_client import Counter

from components.router.errors import RouteError
from components.router.nginx_sync import NginxSync
from components.router.routes import normal_host
from components.router.table import Table

MISSES = Counter("ingot_router_misses_total", "Questions of nginx about an unknown host.", ["answer"])

# nginx's location for a request whose route it has meanwhile received.
KNOWN = "@known"
_LOOK_SECONDS = 0.05


class MissHandler:
    """An HTTP server on a Unix socket.

    Args:
        socket: where to listen.
        table: the route table.
        nginx_sync: sends it to nginx.
        settled: whether a host that is not in the table is unknown for certain.
        hold_seconds: how long a request may wait for a route to be learned and pushed.
    """

    def __init__(
        self,
        socket: Path,
        table: Table,
        nginx_sync: NginxSync,
        settled: Callable[[], bool],
        hold_seconds: float,
    ) -> None:
        self._socket = socket
        self._table = table
        self._nginx_sync = nginx_sync
        self._settled = settled
        self._hold = hold_seconds
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; the socket belongs to this process's group alone.

        Raises:
            OSError: the folder is missing or not writable.
        """
        app = web.Application()
        app.router.add_get("/", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket)).start()
        self._socket.chmod(0o660)

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.unlink(missing_ok=True)

    async def _handle(self, request: web.Request) -> web.Response:
        deadline = time.monotonic() + self._hold
        try:
            host = normal_host(request.host)
        except RouteError:
            return self._refuse(404)
        while host not in self._table:
            if self._settled():
                return self._refuse(404)
            if time.monotonic() >= deadline:
                return self._refuse(503)
            await asyncio.sleep(_LOOK_SECONDS)
        if await self._nginx_sync.flush(max(0.1, deadline - time.monotonic())):
            MISSES.labels("known").inc()
            return web.Response(headers={"X-Accel-Redirect": KNOWN})
        return self._refuse(503)

    def _refuse(self, status: int) -> web.Response:
        MISSES.labels("unknown" if status == 404 else "unsure").inc()
        return web.Response(status=status)
