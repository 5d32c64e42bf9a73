"""The orchestrator's presence on the bus: its announcement and its route (protocol 2.2 to 2.4)."""

from __future__ import annotations

import threading

from components.common.bus import Incoming
from components.common.bus_thread import BusThread
from components.common.component_logs import answer_logs
from components.common.identity import Identity
from components.common.messages import RouterHello, RouterRegister
from components.common.platform_hosts import REGISTER, UNREGISTER
from orchestrator.config import OrchestratorConfig

REGISTER_SECONDS = 20.0


class Link:
    """The presence on the bus: it subscribes when made; `start` connects, `leave` removes the route, `stop` ends.

    Args:
        config: domain, address and port.
        identity: the announced one.
        bus: not started yet.
    """

    def __init__(self, config: OrchestratorConfig, identity: Identity, bus: BusThread) -> None:
        self._config = config
        self._identity = identity
        self._bus = bus
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="route", daemon=True)
        bus.subscribe("vcap.component.discover", None, self._discovered)
        bus.subscribe("router.start", RouterHello, self._router_started)
        answer_logs(bus.bus, "orchestrator", identity.uuid)
        bus.bus.on_connect(self._connected)

    def start(self) -> None:
        """Connect in the background and begin to keep the route fresh."""
        self._bus.start()
        self._keeper.start()

    def leave(self) -> None:
        """Remove the route; requests still arrive for a moment and are served."""
        if not self._leaving.is_set():
            self._leaving.set()
            for subject in UNREGISTER:
                self._bus.publish(subject, self._route())

    def stop(self) -> None:
        """End the bus's thread."""
        self.leave()
        self._keeper.join(timeout=5)
        self._bus.close()

    def _route(self) -> RouterRegister:
        return RouterRegister(
            host=self._config.address,
            port=self._config.port,
            uris=[self._config.api],
            tags={"component": "Orchestrator"},
        )

    def _announcement(self, *, uptime: bool = False) -> object:
        status = self._config.status
        return self._identity.announcement(
            f"{self._config.address}:{self._config.port}", [status.user, status.password], uptime=uptime
        )

    async def _connected(self) -> None:
        await self._bus.bus.publish("vcap.component.announce", self._announcement())
        await self._register()
        await self._bus.bus.publish("router.greet")

    async def _discovered(self, message: Incoming[object]) -> None:
        await message.respond(self._announcement(uptime=True))

    async def _router_started(self, _message: Incoming[RouterHello]) -> None:
        await self._register()

    async def _register(self) -> None:
        if not self._leaving.is_set():
            for subject in REGISTER:
                await self._bus.bus.publish(subject, self._route())

    def _keep(self) -> None:
        while not self._leaving.wait(REGISTER_SECONDS):
            if self._bus.bus.connected:
                self._bus.run(self._register())
