"""A gateway: it turns the HTTP requests of controllers into requests to nodes; a service subclasses it (protocol 6.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

from aiohttp import web

from components.common import aio, log
from components.common.bus.client import Bus
from components.common.errors import IngotError
from components.common.identity import Identity
from components.services.base import rest
from components.services.base.config import GatewayConfig
from components.services.base.controllers import ControllerError, Controllers
from components.services.base.handles import ServiceHandle
from components.services.base.orphans import Orphans
from components.services.base.provisioner import Provisioner

_RETRY_SECONDS = 1.0
T = TypeVar("T")
logger = log.get(__name__)


class Gateway:
    """One service's gateway, run by `components.common.daemon.run`; a provider subclasses it and names three things.

    Attributes:
        name: the service's name to users, the first part of its label (`redis`).
        tags: of the service, beside name and label.
        provisioner_type: its `Provisioner`.

    Args:
        config: already checked.
        bus: not yet started.
        identity: announced by the daemon.
    """

    name: ClassVar[str]
    tags: ClassVar[tuple[str, ...]] = ()
    provisioner_type: ClassVar[type[Provisioner]]

    def __init__(self, config: GatewayConfig, bus: Bus, identity: Identity) -> None:
        self._config = config
        self._bus = bus
        self._identity = identity
        self.label = f"{self.name}-{config.version}"
        self.labels = frozenset({self.label, *config.aliases})
        self.token = config.token
        self.plans = config.plans
        self.provisioner = self.provisioner_type(config, bus)
        self._controllers = Controllers(config.controllers, config.token, self.label)
        self._fetched = False
        self._registered = False
        self._stopping = False
        self._registering = asyncio.Lock()
        self._at_work = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes beside the probes."""
        return rest.routes(self)

    async def start(self) -> None:
        """Begin to register and to fetch the handles, without waiting for either."""
        aio.spawn(self._tasks, self._keep_registered(), "register")
        aio.spawn(self._tasks, self._fetch_handles(), "fetch-handles")
        if self._config.check_orphan_interval > 0:
            aio.spawn(self._tasks, self._check_when_ready(), "check-orphans")

    async def stop(self) -> None:
        """Finish requests under way, and tell the controllers that this gateway is gone."""
        self._stopping = True
        try:
            async with asyncio.timeout(self._config.node_timeout):
                await self._idle.wait()
        except TimeoutError:
            logger.warning("stopped_at_work", operations=self._at_work)
        # A registration that is broken off may be carried out after this, and the gateway would be offered again.
        async with self._registering:
            await aio.cancel_and_wait(self._tasks)
            try:
                await self._controllers.register(self._offering(active=False))
            except ControllerError as error:
                logger.warning("not_deregistered", reason=str(error))
        await self.provisioner.close()
        await self._controllers.close()

    def ready(self) -> list[str]:
        """Return the reasons why nothing can be provisioned now."""
        reasons = [] if self._bus.connected else ["bus_lost"]
        reasons += [] if self._fetched else ["handles_not_fetched"]
        reasons += [] if self._registered else ["not_registered"]
        return reasons if self.provisioner.nodes.rooms() else [*reasons, "no_node"]

    def varz(self) -> dict[str, object]:
        """Return facts for `/varz`."""
        return {"label": self.label, "plans": self.plans, **self.provisioner.varz()}

    def unavailable(self) -> str:
        """Return the reason why nothing can be done now; empty when there is none."""
        if self._stopping:
            return "this gateway is stopping"
        return "" if self._fetched else "this gateway does not know its instances yet"

    async def provision(self, plan: str) -> ServiceHandle:
        """See `Provisioner.provision`."""
        return await self._working(self.provisioner.provision(plan))

    async def unprovision(self, service_id: str) -> None:
        """See `Provisioner.unprovision`."""
        await self._working(self.provisioner.unprovision(service_id))

    async def bind(self, service_id: str, options: dict[str, Any]) -> ServiceHandle:
        """See `Provisioner.bind`."""
        return await self._working(self.provisioner.bind(service_id, options))

    async def unbind(self, service_id: str, handle_id: str) -> None:
        """See `Provisioner.unbind`."""
        await self._working(self.provisioner.unbind(service_id, handle_id))

    def undo(self, handle: ServiceHandle) -> None:
        """See `Provisioner.undo`."""
        self.provisioner.undo(handle)

    def check_orphans(self) -> None:
        """Begin to look for orphans; the result is in `/varz`."""
        aio.spawn(self._tasks, self._check_orphans(), "check-orphans-asked")

    async def purge(self, unwanted: Orphans) -> None:
        """See `Provisioner.purge`."""
        await self.provisioner.purge(unwanted)

    async def _working(self, work: Coroutine[Any, Any, T]) -> T:
        self._at_work += 1
        self._idle.clear()
        try:
            return await work
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()

    def _offering(self, *, active: bool) -> dict[str, Any]:
        config = self._config
        url = f"http://{config.address}:{config.status.port}"
        if not active:
            return {"label": self.label, "url": url, "active": False}
        return {
            "label": self.label,
            "url": url,
            "active": True,
            "description": config.description,
            "info_url": config.info_url,
            "plans": config.plans,
            "tags": [self.name, self.label, *self.tags],
            "plan_options": {},
            "acls": config.acls,
            "timeout": config.timeout,
        }

    async def _keep_registered(self) -> None:
        failing = False
        while True:
            try:
                async with self._registering:
                    await self._controllers.register(self._offering(active=True))
            except ControllerError as error:
                if not failing:
                    logger.warning("not_registered", reason=str(error))
                failing, self._registered = True, False
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if not self._registered:
                logger.info("registered", label=self.label)
            failing, self._registered = False, True
            await asyncio.sleep(self._config.register_interval)

    async def _fetch_handles(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                handles = await self._controllers.handles()
            except ControllerError as error:
                if attempt == 1:
                    logger.warning("handles_not_fetched", reason=str(error))
                await asyncio.sleep(self._config.handles_interval)
                continue
            self.provisioner.handles.replace(handles)
            self._fetched = True
            logger.info("handles_fetched", handles=len(handles))
            return

    async def _check_when_ready(self) -> None:
        # The first check comes as early as possible: bindings ended while this gateway was away should not stay open
        # for long.
        while True:
            possible = not self.ready()
            if possible:
                await self._check_orphans()
            await asyncio.sleep(self._config.check_orphan_interval if possible else _RETRY_SECONDS)

    async def _check_orphans(self) -> None:
        try:
            await self.provisioner.check_orphans(self._controllers.handles)
        except IngotError as error:
            logger.warning("orphans_not_checked", reason=str(error))
