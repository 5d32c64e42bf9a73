"""The router's handlers on the bus: greeting, registrations, and ageing of routes (protocol 2.3, 3.2)."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import Counter

from components.common import log
from components.common.bus.client import Bus, Incoming
from components.common.bus.messages import RouterHello
from components.common.bus.platform_hosts import PLATFORM_REGISTER, REGISTER, UNREGISTER
from components.common.identity import Identity
from components.router.config import RouterConfig
from components.router.deas import DeaAddresses
from components.router.errors import RouteError
from components.router.guard import Guard
from components.router.routes import Registration, parse
from components.router.table import Table

REFUSED = Counter("ingot_router_refused_registrations_total", "Registrations that named no possible route.")
PRUNED = Counter("ingot_router_pruned_routes_total", "Routes dropped because no registration confirmed them.")

logger = log.get(__name__)


class Registrar:
    """The handlers that feed the table from the bus.

    Args:
        config: periods and ages.
        bus: its subscriptions are made here.
        identity: its id is in `router.start`.
        table: the route table.
        changed: called after the table may have changed.
        deas: knows the addresses that serve applications.
    """

    def __init__(
        self,
        config: RouterConfig,
        bus: Bus,
        identity: Identity,
        table: Table,
        changed: Callable[[], None],
        *,
        deas: DeaAddresses,
    ) -> None:
        self._config = config
        self._bus = bus
        self._table = table
        self._changed = changed
        self.guard = Guard(table, deas)
        self._heard_since: float | None = None
        self._hello = RouterHello(
            id=identity.uuid,
            hosts=[config.address],
            minimumRegisterIntervalInSeconds=config.register_seconds,
            pruneThresholdInSeconds=int(config.prune_seconds),
        )
        for subject in REGISTER:
            bus.subscribe(subject, Registration, self._on_register)
        for subject in UNREGISTER:
            bus.subscribe(subject, Registration, self._on_unregister)
        bus.subscribe("router.greet", None, self._on_greet)
        bus.on_connect(self._on_connect)

    @property
    def settled(self) -> bool:
        """Return whether all components have had time to register: from then on an unknown host counts as unknown."""
        since = self._heard_since
        return since is not None and time.monotonic() - since >= self._config.settle_seconds

    async def greet(self) -> None:
        """Publish `router.start`; every listener answers by registering again."""
        if self._bus.connected:
            await self._bus.publish("router.start", self._hello)

    def prune(self, now: float) -> None:
        """Drop routes that are past their age, unless the bus is away and no confirmation can arrive."""
        if not self._bus.connected:
            return
        dropped = self._table.prune(now)
        if dropped:
            PRUNED.inc(dropped)
            logger.info("routes_pruned", routes=dropped)
            self._changed()

    async def _on_connect(self) -> None:
        self._table.refresh(time.monotonic())
        await self._bus.publish("router.start", self._hello)
        if self._heard_since is None:
            self._heard_since = time.monotonic()

    async def _on_register(self, message: Incoming[Registration]) -> None:
        try:
            hosts, endpoint = parse(message.body)
            hosts = self.guard.registered(message.subject, hosts, endpoint)
        except RouteError as error:
            self._refuse(message, error)
            return
        if not hosts:
            return
        platform = message.subject == PLATFORM_REGISTER
        self._table.register(hosts, endpoint, time.monotonic(), platform=platform)
        if self._table.changed:
            self._changed()

    async def _on_unregister(self, message: Incoming[Registration]) -> None:
        try:
            hosts, endpoint = parse(message.body)
        except RouteError as error:
            self._refuse(message, error)
            return
        self._table.unregister(self.guard.unregistered(message.subject, hosts), endpoint)
        if self._table.changed:
            self._changed()

    async def _on_greet(self, message: Incoming[object]) -> None:
        await message.respond(self._hello)

    def _refuse(self, message: Incoming[Registration], error: RouteError) -> None:
        REFUSED.inc()
        logger.warning("registration_refused", subject=message.subject, reason=str(error))
