"""A web daemon's presence on the bus: its announcement, its log, and the route of its API (protocol 2.2 to 2.4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from components.common.bus.client import Incoming
from components.common.bus.component_logs import answer_logs
from components.common.bus.messages import RouterHello, RouterRegister
from components.common.bus.platform_hosts import REGISTER, UNREGISTER
from components.common.bus.thread import BusThread
from components.common.daemon import announce
from components.common.identity import Identity
from components.common.periodic import Periodic
from components.common.web.config import WebConfig

REGISTER_SECONDS = 20.0
# How soon a drain is noticed.
LOOK_SECONDS = 0.5


class Presence:
    """The presence on the bus: it subscribes when made; `start` connects, `leave` withdraws the route, `stop` ends.

    Args:
        component: its name, as in its log.
        config: host name, address, port and the probes' password.
        identity: the announced one.
        bus: not started yet.
        leaving: returns whether the daemon wants no further requests.
        queue: the queue group in which processes of one identity answer a discovery.
    """

    def __init__(
        self,
        component: str,
        config: WebConfig,
        identity: Identity,
        bus: BusThread,
        *,
        leaving: Callable[[], bool],
        queue: str = "",
    ) -> None:
        self._bus = bus
        self._leaving = leaving
        self._route = RouterRegister(
            host=config.address, port=config.port, uris=[config.api], tags={"component": identity.kind}
        )
        self._routed = True
        self._registered = 0.0
        self._keeper = Periodic("route", LOOK_SECONDS, self._keep, "route_not_kept")
        status = config.status
        announce(
            bus.bus, identity, f"{config.address}:{config.port}", [status.user, status.password], queue=queue
        )
        bus.subscribe("router.start", RouterHello, self._router_started)
        answer_logs(bus.bus, component, identity.uuid)
        bus.bus.on_connect(self._connected)

    def start(self) -> None:
        """Connect in the background and begin to keep the route fresh."""
        self._registered = time.monotonic()
        self._bus.start()
        self._keeper.start()

    def leave(self) -> None:
        """Withdraw the route; requests still arrive for a moment, and are served."""
        self._tell(UNREGISTER)

    def stop(self) -> None:
        """End the bus's thread."""
        self._keeper.stop()
        self._bus.close()

    def _tell(self, subjects: Iterable[str]) -> None:
        for subject in subjects:
            self._bus.publish(subject, self._route)

    async def _connected(self) -> None:
        await self._register()
        await self._bus.bus.publish("router.greet")

    async def _router_started(self, _message: Incoming[RouterHello]) -> None:
        await self._register()

    async def _register(self) -> None:
        if not self._leaving():
            for subject in REGISTER:
                await self._bus.bus.publish(subject, self._route)

    def _keep(self) -> None:
        if not self._bus.bus.connected:
            return
        now, routed = time.monotonic(), not self._leaving()
        if routed and (not self._routed or now - self._registered >= REGISTER_SECONDS):
            self._registered = now
            self._tell(REGISTER)
        elif self._routed and not routed:
            self._tell(UNREGISTER)
        self._routed = routed
