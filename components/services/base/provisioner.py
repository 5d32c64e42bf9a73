"""The gateway's requests to nodes on the bus: it keeps the handles and leaves nothing half-made (protocol 6.4).

An unwanted result of a node (its answer came too late, the caller had gone) is undone. A removal that cannot be
done at once, because the node is away, is recorded on disk and done when the node announces itself.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from components.common import aio, log
from components.common.bus.client import Bus, BusNoAnswerError, Incoming
from components.common.bus.service_messages import (
    Credentials,
    NodeHandles,
    PurgeOrphan,
    ServiceAnnouncement,
    ServiceBind,
    ServiceDiscover,
    ServiceProvision,
    ServiceReply,
    ServiceUnbind,
    ServiceUnprovision,
)
from components.common.errors import BusUnavailableError, MessageError
from components.services.base import node_selection, orphans
from components.services.base.config import GatewayConfig
from components.services.base.errors import INTERNAL, NODE_TIMEOUT, UNAVAILABLE, ServiceError
from components.services.base.handles import HandleTable, ServiceHandle, binding_key
from components.services.base.pending_removals import PendingRemovals, Removal

_DISCOVER_SECONDS = 2.0
_LATER = "it will be done as soon as the node answers"
Fetch = Callable[[], Awaitable[list[ServiceHandle]]]
logger = log.get(__name__)


class NodeAwayError(ServiceError):
    """The node does not listen on the bus: nothing was begun."""

    def __init__(self, node: str) -> None:
        super().__init__(NODE_TIMEOUT, f"the node {node} is away")


class Provisioner:
    """The requests to the nodes of one service, which subclasses it with its name.

    Args:
        config: the gateway's.
        bus: not yet started.
    """

    service_name: ClassVar[str]

    def __init__(self, config: GatewayConfig, bus: Bus) -> None:
        self._config = config
        self._bus = bus
        self.nodes = node_selection.Nodes(self.service_name, self.node_score)
        self.handles = HandleTable()
        base = Path(config.base_dir)
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.pending_removals = PendingRemovals(base / "removals.json")
        self.orphans = orphans.Orphans()
        self._reports: list[NodeHandles] = []
        self._checking = asyncio.Lock()
        self._settling: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        bus.subscribe(f"{self.service_name}.announce", ServiceAnnouncement, self._announced)
        bus.subscribe(f"{self.service_name}.node_handles", NodeHandles, self._reported)
        bus.on_connect(self._discover)

    def node_score(self, announcement: ServiceAnnouncement) -> float:
        """Return the score of a node from its announcement: the highest takes the next instance, not above 0 is full."""
        return node_selection.room(announcement)

    async def provision(self, plan: str) -> ServiceHandle:
        """Make an instance on the node with most room.

        Raises:
            ServiceError: no node could; nothing is left of the attempt.
        """
        if not self.nodes.known(time.monotonic()):
            await self._ask_around(plan)
        in_vain: set[str] = set()
        while True:
            node = self.nodes.choose(
                plan,
                time.monotonic(),
                over_provision=self._config.allow_over_provisioning,
                without=in_vain,
            )
            try:
                reply = await self._ask(
                    "provision", node, ServiceProvision(plan=plan), self._unprovision_late
                )
            except NodeAwayError:
                in_vain.add(node)
                continue
            finally:
                self.nodes.done(node)
            credentials = {**(reply.credentials or {}), "node_id": node}
            if not isinstance(credentials.get("name"), str):
                raise ServiceError(INTERNAL, f"the node {node} returned no name of the instance")
            handle = ServiceHandle(credentials["name"], {"plan": plan}, credentials)
            self.handles.add(handle)
            logger.info("instance_provisioned", instance=handle.service_id, node=node, plan=plan)
            return handle

    async def unprovision(self, service_id: str) -> None:
        """Remove an instance and its bindings; work that the node cannot do now is done later.

        Raises:
            ServiceError: there is no such instance, or the node is away or could not; then it is done later.
        """
        await self._remove(self._removal_of(self.handles.instance(service_id)))
        logger.info("instance_unprovisioned", instance=service_id)

    async def bind(self, service_id: str, options: dict[str, Any]) -> ServiceHandle:
        """Make credentials of an instance for one application.

        Raises:
            ServiceError: there is no such instance, or the node is away or could not; nothing is left of it.
        """
        instance = self.handles.instance(service_id)
        node = self._node_of(instance)
        request = ServiceBind(name=service_id, bind_opts=options)
        reply = await self._ask("bind", node, request, self._unbind_late)
        plan = instance.configuration.get("plan")
        configuration = {"plan": plan, "data": {"binding_options": options}}
        handle = ServiceHandle(
            str(uuid.uuid4()), configuration, {**(reply.credentials or {}), "name": service_id}
        )
        self.handles.add(handle)
        logger.info("instance_bound", instance=service_id, binding=handle.service_id, node=node)
        return handle

    async def unbind(self, service_id: str, handle_id: str) -> None:
        """End a binding; work that the node cannot do now is done later.

        Raises:
            ServiceError: there is no such binding, or the node is away or could not; then it is done later.
        """
        await self._remove(self._removal_of(self.handles.binding(service_id, handle_id)))
        logger.info("instance_unbound", instance=service_id, binding=handle_id)

    def undo(self, handle: ServiceHandle) -> None:
        """Undo, in the background, a handle whose caller has gone."""
        logger.warning("asker_gone", instance=handle.instance, handle=handle.service_id)
        self._settle_later(self._removal_of(handle))

    async def check_orphans(self, fetch: Fetch) -> None:
        """Look twice for orphans (protocol 6.6); the result is in `orphans`.

        Raises:
            IngotError: the controllers could not be asked.
        """
        if self._checking.locked():
            return
        async with self._checking:
            staged = await self._look(fetch)
            if staged:
                await asyncio.sleep(self._config.double_check_orphan_interval)
                staged = orphans.still(staged, await self._look(fetch))
            self.orphans = staged
            if staged:
                logger.warning("orphans_found", **staged.counts())
            if self._config.purge_orphan_bindings and staged.bindings:
                await self.purge(orphans.Orphans(bindings=staged.bindings))

    async def purge(self, unwanted: orphans.Orphans) -> None:
        """Have nodes remove orphans; instances and bindings that this gateway knows are not touched."""
        names, keys = self.handles.names(), self.handles.binding_keys()
        for node in sorted({*unwanted.instances, *unwanted.bindings}):
            message = PurgeOrphan(
                orphan_ins_list=[n for n in unwanted.instances.get(node, []) if n not in names],
                orphan_binding_list=[
                    c for c in unwanted.bindings.get(node, []) if binding_key(c) not in keys
                ],
            )
            logger.warning(
                "orphans_purged",
                node=node,
                instances=len(message.orphan_ins_list),
                bindings=len(message.orphan_binding_list),
            )
            await self._bus.publish(f"{self.service_name}.purge_orphan.{node}", message)

    async def close(self) -> None:
        """End background work; pending removals stay on disk."""
        await aio.cancel_and_wait(self._tasks)

    def varz(self) -> dict[str, object]:
        """Return facts for `/varz`."""
        return {
            "nodes": self.nodes.rooms(),
            "instances": len(self.handles.names()),
            "bindings": len(self.handles.binding_keys()),
            "removals_owed": {n: len(self.pending_removals.of(n)) for n in self.pending_removals.nodes()},
            **self.orphans.varz(),
        }

    async def _ask(
        self, verb: str, node: str, body: object, late: Callable[[str, Credentials], Removal] | None
    ) -> ServiceReply:
        """Ask a node; `late` returns the removal that undoes a late answer."""
        subject = f"{self.service_name}.{verb}.{node}"
        asking = aio.spawn(
            self._tasks,
            self._bus.request(subject, body, ServiceReply, timeout=self._config.late_timeout),
            subject,
        )
        try:
            await asyncio.wait({asking}, timeout=self._config.node_timeout)
        finally:
            if not asking.done():
                asking.add_done_callback(lambda task: self._answered_late(task, verb, node, late))
        if not asking.done():
            seconds = f"{self._config.node_timeout:g} s"
            raise ServiceError(NODE_TIMEOUT, f"the node {node} did not answer within {seconds}")
        try:
            reply: ServiceReply = asking.result()
        except BusNoAnswerError:
            raise NodeAwayError(node) from None
        except BusUnavailableError:
            raise ServiceError(UNAVAILABLE, "the gateway has lost its connection to the nodes") from None
        except MessageError as error:
            raise ServiceError(INTERNAL, f"the node {node} answered against the contract: {error}") from None
        if not reply.success:
            raise ServiceError.of(reply.error)
        return reply

    def _answered_late(
        self,
        request: asyncio.Task[ServiceReply],
        verb: str,
        node: str,
        late: Callable[[str, Credentials], Removal] | None,
    ) -> None:
        if request.cancelled() or request.exception() is not None:
            return
        reply = request.result()
        logger.warning("node_answered_late", verb=verb, node=node, success=reply.success)
        if late is not None and reply.success and reply.credentials:
            self._settle_later(late(node, reply.credentials))

    @staticmethod
    def _unprovision_late(node: str, credentials: Credentials) -> Removal:
        return Removal(node, "unprovision", str(credentials.get("name", "")))

    @staticmethod
    def _unbind_late(node: str, credentials: Credentials) -> Removal:
        return Removal(node, "unbind", credentials=[credentials])

    async def _remove(self, removal: Removal) -> None:
        # Recorded before the request: the controllers have forgotten it already.
        self.pending_removals.add(removal)
        try:
            await self._ask(removal.kind, removal.node, _asking(removal), None)
        except ServiceError as error:
            raise ServiceError((error.code, error.status), f"{error.description}; {_LATER}") from None
        self._removed(removal)

    def _removed(self, removal: Removal) -> None:
        self.pending_removals.done(removal)
        self.handles.remove(removal.service_id)

    def _settle_later(self, removal: Removal) -> None:
        self.pending_removals.add(removal)
        aio.spawn(self._tasks, self._settle(removal.node), f"settle-{removal.node}")

    async def _settle(self, node: str) -> None:
        """Do the pending removals of a node, one after the other, until it does not answer."""
        if node in self._settling:
            return
        self._settling.add(node)
        try:
            for removal in self.pending_removals.of(node):
                try:
                    await self._ask(removal.kind, node, _asking(removal), None)
                except ServiceError as error:
                    logger.warning("removal_failed", node=node, verb=removal.kind, reason=error.description)
                    if error.code in (NODE_TIMEOUT[0], UNAVAILABLE[0]):
                        return
                else:
                    self._removed(removal)
                    logger.info("removal_made_good", node=node, verb=removal.kind, handle=removal.service_id)
        finally:
            self._settling.discard(node)

    def _removal_of(self, handle: ServiceHandle) -> Removal:
        if handle.is_instance:
            bindings = [b.credentials for b in self.handles.bindings(handle.service_id)]
            return Removal(self._node_of(handle), "unprovision", handle.service_id, bindings)
        node = self._node_of(self.handles.instance(handle.instance))
        return Removal(node, "unbind", handle.service_id, [handle.credentials])

    def _node_of(self, instance: ServiceHandle) -> str:
        node = instance.credentials.get("node_id")
        if not isinstance(node, str):
            raise ServiceError(INTERNAL, f"the node of {instance.service_id} is not known")
        return node

    async def _look(self, fetch: Fetch) -> orphans.Orphans:
        handles = HandleTable()
        self._reports = []
        await self._bus.publish(f"{self.service_name}.check_orphan", b"{}")
        # Read last, so that objects made while nodes reported are known.
        await asyncio.sleep(min(self._config.node_timeout, _DISCOVER_SECONDS))
        handles.replace(await fetch())
        return orphans.unknown(self._reports, handles)

    async def _ask_around(self, plan: str) -> None:
        try:
            announcements = await self._bus.request_many(
                f"{self.service_name}.discover",
                ServiceDiscover(plan=plan),
                ServiceAnnouncement,
                timeout=_DISCOVER_SECONDS,
                expected=1,
            )
        except BusUnavailableError:
            raise ServiceError(UNAVAILABLE, "the gateway has lost its connection to the nodes") from None
        for announcement in announcements:
            self.nodes.heard(announcement, time.monotonic())

    async def _discover(self) -> None:
        # Without an inbox: nodes answer on X.announce, which every gateway hears.
        await self._bus.publish(f"{self.service_name}.discover", ServiceDiscover())

    async def _announced(self, message: Incoming[ServiceAnnouncement]) -> None:
        self.nodes.heard(message.body, time.monotonic())
        if self.pending_removals.of(message.body.id):
            aio.spawn(self._tasks, self._settle(message.body.id), f"settle-{message.body.id}")

    async def _reported(self, message: Incoming[NodeHandles]) -> None:
        self._reports.append(message.body)


def _asking(removal: Removal) -> ServiceUnprovision | ServiceUnbind:
    if removal.kind == "unprovision":
        return ServiceUnprovision(name=removal.service_id, bindings=removal.credentials)
    return ServiceUnbind(credentials=removal.credentials[0])
