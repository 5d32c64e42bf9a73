"""A node: it makes and removes instances of a service on its machine; a service subclasses it (protocol 6.4).

A provider subclasses `Node` and writes `provision`, `unprovision`, `bind`, `unbind`, `instances` and `bindings`; each may be
called for the same object twice and then returns the same. The base class takes requests from the bus, does one at a time for
an instance, answers, announces, and undoes a result whose answer could not be delivered.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakValueDictionary

import msgspec
from prometheus_client import Counter, Gauge

from components.common import aio, log
from components.common.bus.client import Bus, Incoming
from components.common.bus.service_messages import (
    Credentials,
    PurgeOrphan,
    ServiceAnnouncement,
    ServiceBind,
    ServiceDiscover,
    ServiceProvision,
    ServiceReply,
    ServiceUnbind,
    ServiceUnprovision,
)
from components.common.errors import IngotError
from components.common.identity import Identity
from components.services.base.config import NodeConfig
from components.services.base.errors import INTERNAL, ServiceError
from components.services.base.reports import reports

REQUESTS = Counter("ingot_service_node_requests_total", "Requests of gateways, by outcome.", ["verb", "code"])
INSTANCES = Gauge("ingot_service_node_instances", "Instances on this node.")
_FINISH_SECONDS = 15.0
C = TypeVar("C", bound=NodeConfig)
B = TypeVar("B")
Work = Callable[[B], Awaitable[Credentials | None]]
Undo = Callable[[B, Credentials], Awaitable[None]]
logger = log.get(__name__)


class Node(abc.ABC, Generic[C]):
    """One node of a service, run by `components.common.daemon.run`.

    Attributes:
        service_name: the service's name on the bus (protocol 6.3).

    Args:
        config: already checked.
        bus: not yet started.
        identity: announced by the daemon.
    """

    service_name: ClassVar[str]

    def __init__(self, config: C, bus: Bus, identity: Identity) -> None:
        self.config = config
        self.bus = bus
        self.identity = identity
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._making = 0
        name, me = self.service_name, config.node_id
        bus.subscribe(f"{name}.discover", None, self._discovered)
        bus.subscribe(f"{name}.provision.{me}", ServiceProvision, self._taking(self._provision, self._unmake))
        bus.subscribe(f"{name}.unprovision.{me}", ServiceUnprovision, self._taking(self._unprovision))
        bus.subscribe(f"{name}.bind.{me}", ServiceBind, self._taking(self._bind, self._unmake_binding))
        bus.subscribe(f"{name}.unbind.{me}", ServiceUnbind, self._taking(self._unbind))
        bus.subscribe(f"{name}.check_orphan", None, self._check_orphan)
        bus.subscribe(f"{name}.purge_orphan.{me}", PurgeOrphan, self._purge_orphan)
        bus.on_connect(self._announce)

    @abc.abstractmethod
    async def provision(self, plan: str, credentials: Credentials | None) -> Credentials:
        """Make an instance, and return its credentials (protocol 6.7), `name` among them.

        Args:
            plan: one of the gateway's.
            credentials: of an instance to be made again with the same names and passwords. Where it exists already,
                it is returned.

        Raises:
            ServiceError: it cannot be made; nothing is left of it.
        """

    @abc.abstractmethod
    async def unprovision(self, name: str, bindings: list[Credentials]) -> None:
        """Remove an instance with all its bindings and data; a missing one is no error.

        Raises:
            ServiceError: a part of it is left.
        """

    @abc.abstractmethod
    async def bind(self, name: str, options: dict[str, Any], credentials: Credentials | None) -> Credentials:
        """Make credentials for one application, and return them.

        Raises:
            ServiceError: there is no such instance, or it cannot be done; nothing is left of it.
        """

    @abc.abstractmethod
    async def unbind(self, credentials: Credentials) -> None:
        """End a binding: after this its credentials are refused, and connections opened with them are closed.

        Raises:
            ServiceError: it cannot be done.
        """

    @abc.abstractmethod
    def instances(self) -> list[str]:
        """Return the names of all finished instances."""

    @abc.abstractmethod
    def bindings(self) -> list[Credentials]:
        """Return `name` and `username` of all bindings, without passwords."""

    def announcement(self) -> ServiceAnnouncement:
        """Return this node's offer: the number of instances that it can still take."""
        return ServiceAnnouncement(
            id=self.config.node_id,
            plan=self.config.plan,
            available_capacity=max(0, self.config.capacity - len(self.instances())),
            capacity_unit=1,
        )

    async def start(self) -> None:
        """Begin; a subclass finds its instances again first, and then calls this."""
        self.spawn(aio.every(self.config.announce_interval, self._announce), "announce")

    async def stop(self) -> None:
        """Finish accepted requests; a subclass calls this first, and then releases its instances, which run on."""
        if self._requests:
            await asyncio.wait(self._requests, timeout=_FINISH_SECONDS)
        await aio.cancel_and_wait([*self._tasks, *self._requests])

    def ready(self) -> list[str]:
        """Return the reasons why this node takes nothing."""
        return [] if self.bus.connected else ["bus_lost"]

    def varz(self) -> dict[str, object]:
        """Return facts for `/varz`."""
        return {
            "node_id": self.config.node_id,
            "plan": self.config.plan,
            "capacity": self.config.capacity,
            "instances": len(self.instances()),
            "bindings": len(self.bindings()),
        }

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock of an instance, which every change of it holds. It is held while a request is done."""
        return self._locks.setdefault(name, asyncio.Lock())

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine beside the requests; its exceptions are logged."""
        return aio.spawn(self._tasks, aio.logged(work, name), name)

    async def _provision(self, body: ServiceProvision) -> Credentials:
        credentials = body.credentials
        name = str((credentials or {}).get("name", ""))
        if not name or name not in self.instances():
            self._check_room()
        self._making += 1
        try:
            if not name:
                return await self.provision(body.plan, credentials)
            async with self.lock(name):
                return await self.provision(body.plan, credentials)
        finally:
            self._making -= 1

    async def _unprovision(self, body: ServiceUnprovision) -> None:
        async with self.lock(body.name):
            await self.unprovision(body.name, body.bindings)

    async def _bind(self, body: ServiceBind) -> Credentials:
        async with self.lock(body.name):
            return await self.bind(body.name, body.bind_opts, body.credentials)

    async def _unbind(self, body: ServiceUnbind) -> None:
        async with self.lock(str(body.credentials.get("name", ""))):
            await self.unbind(body.credentials)

    async def _unmake(self, body: ServiceProvision, made: Credentials) -> None:
        # An instance requested by name may belong to an owner already.
        if body.credentials is None:
            await self._unprovision(ServiceUnprovision(name=str(made["name"])))

    async def _unmake_binding(self, body: ServiceBind, made: Credentials) -> None:
        if body.credentials is None:
            await self._unbind(ServiceUnbind(credentials={**made, "name": body.name}))

    def _check_room(self) -> None:
        if len(self.instances()) + self._making >= self.config.capacity:
            raise ServiceError(INTERNAL, f"the node {self.config.node_id} is full")

    def _taking(self, work: Work[B], undo: Undo[B] | None = None) -> Callable[[Incoming[B]], Awaitable[None]]:
        """Return a handler that does `work` beside other messages, answers, and undoes results that could not be delivered."""

        async def receive(message: Incoming[B]) -> None:
            # Not `spawn`: a request is finished before this daemon ends.
            aio.spawn(self._requests, self._answer(message, work, undo), message.subject)

        return receive

    async def _answer(self, message: Incoming[B], work: Work[B], undo: Undo[B] | None) -> None:
        verb = message.subject.split(".")[1]
        code = 0
        try:
            reply = ServiceReply(success=True, credentials=await work(message.body))
        except ServiceError as error:
            code = error.code
            logger.warning("request_refused", verb=verb, reason=error.description, code=code)
            reply = ServiceReply(success=False, error=error.wire())
        except Exception:
            code = INTERNAL[0]
            logger.exception("request_failed", verb=verb)
            broken = ServiceError(INTERNAL, f"the node {self.config.node_id} failed; its log has the reason")
            reply = ServiceReply(success=False, error=broken.wire())
        REQUESTS.labels(verb, str(code)).inc()
        # Before the answer: until then the gateway counts its own request, and from then on the announcement.
        await self._announce()
        delivered = await message.respond(reply) or not message.wants_reply
        if not delivered and undo is not None and reply.credentials is not None:
            logger.warning("answer_not_delivered", verb=verb)
            try:
                await undo(message.body, reply.credentials)
            except IngotError as error:
                logger.warning("not_undone", verb=verb, reason=str(error))

    async def _announce(self) -> None:
        INSTANCES.set(len(self.instances()))
        await self.bus.publish(f"{self.service_name}.announce", self.announcement())

    async def _discovered(self, message: Incoming[Any]) -> None:
        # Nodes of 2011 are asked with an empty payload.
        try:
            request = msgspec.convert(message.body or {}, ServiceDiscover)
        except msgspec.ValidationError:
            request = ServiceDiscover()
        if request.plan not in (None, self.config.plan) or self.ready():
            return
        if message.wants_reply:
            await message.respond(self.announcement())
        else:
            await self._announce()

    async def _check_orphan(self, _message: Incoming[Any]) -> None:
        for report in reports(self.config.node_id, self.instances(), self.bindings()):
            await self.bus.publish(f"{self.service_name}.node_handles", report)

    async def _purge_orphan(self, message: Incoming[PurgeOrphan]) -> None:
        self.spawn(self._purge(message.body), "purge-orphans")

    async def _purge(self, message: PurgeOrphan) -> None:
        for credentials in message.orphan_binding_list:
            await self._purge_one(self._unbind(ServiceUnbind(credentials=credentials)))
        for name in message.orphan_ins_list:
            await self._purge_one(self._unprovision(ServiceUnprovision(name=name)))
        await self._announce()

    async def _purge_one(self, work: Awaitable[None]) -> None:
        try:
            await work
        except ServiceError as error:
            logger.warning("orphan_not_purged", reason=error.description)
