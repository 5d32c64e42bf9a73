"""Probes: HTTP endpoints of a daemon for machines, operators and Prometheus.

`/healthz` (alive) and `/readyz` (fit to serve, and of which release) are open; `/varz` (protocol 3.5) and `/metrics` need the
announced credentials.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from components.common.config import StatusConfig
from components.common.version import release

Ready = Callable[[], list[str]]
Varz = Callable[[], Mapping[str, Any]]


def authorised(header: str | None, user: str, password: str) -> bool:
    """Return whether an `Authorization: Basic` header is right; takes constant time."""
    scheme, _, blob = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = b64decode(blob, validate=True)
    except (Base64Error, ValueError):
        return False
    return hmac.compare_digest(given, f"{user}:{password}".encode())


def readiness(reasons: list[str]) -> tuple[dict[str, object], int]:
    """Return the answer of `/readyz` and its status, from the reasons against serving."""
    return {"ready": not reasons, "reasons": reasons, "release": release()}, 503 if reasons else 200


class Probes:
    """The HTTP server of a daemon's probes.

    Args:
        config: address, user and password.
        ready: returns the reasons against serving; an empty list means ready.
        varz: returns the facts for `/varz`.
        routes: further routes on this port.
    """

    def __init__(
        self, config: StatusConfig, ready: Ready, varz: Varz, routes: Iterable[web.RouteDef] = ()
    ) -> None:
        self._config = config
        self._password = config.password or secrets.token_hex(16)
        self._ready = ready
        self._varz = varz
        self._routes = tuple(routes)
        self._runner: web.AppRunner | None = None
        self.port = config.port

    @property
    def credentials(self) -> list[str]:
        """Return user and password, as announced on the bus."""
        return [self._config.user, self._password]

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/varz", self._guarded(self._varz_reply))
        app.router.add_get("/metrics", self._guarded(self._metrics))
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._config.host, self._config.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        answer, status = readiness(self._ready())
        return web.json_response(answer, status=status)

    async def _varz_reply(self, _request: web.Request) -> web.Response:
        return web.json_response(dict(self._varz()))

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _guarded(self, handler: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def guard(request: web.Request) -> web.Response:
            if not authorised(request.headers.get("Authorization"), self._config.user, self._password):
                return web.Response(
                    status=401, headers={"WWW-Authenticate": 'Basic realm="ingot"'}, text="denied\n"
                )
            response: web.Response = await handler(request)
            return response

        return guard
