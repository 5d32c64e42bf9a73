"""A worker's subscriptions on the bus and its replies; `components/common/web/presence.py` has its announcement and its route."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from components.common import aio, log
from components.common.bus.client import MALFORMED, Incoming
from components.common.bus.messages import BulkCredentials, DeaBeat, DropletExited, HmRequest
from components.common.bus.operation_messages import DeaUsage, RouterUsage, TaskEnded
from components.common.errors import BusUnavailableError
from components.common.periodic import Interval, Periodic
from components.common.web.presence import Presence
from components.controller.composition import Controller
from components.controller.pool import machines

SAVE_SECONDS = 5.0
LOOK_SECONDS = 0.5
# The number of health managers' requests that one worker handles at a time.
_PARALLEL = 4
_LONGEST_ID = 64
T = TypeVar("T")
logger = log.get(__name__)


def _threaded(work: Callable[[T], None]) -> Callable[[Incoming[T]], Awaitable[None]]:
    """Return a handler that does the work in a thread: a query of the database must not hold up the bus."""

    async def handle(message: Incoming[T]) -> None:
        await asyncio.to_thread(work, message.body)

    return handle


class BusHandlers:
    """The connection of a worker's parts with the bus; `start` before it serves, `stop` when it ends."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._bus = controller.bus
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_PARALLEL)
        self._saves = Interval(SAVE_SECONDS, time.monotonic())
        self._looks = Interval(controller.config.sweep_seconds)
        self._machines = Periodic("machines", LOOK_SECONDS, self._keep_machines, "machines_not_kept")
        self._bus.bus.on_connect(self._connected)
        identity = controller.identity
        self._presence = Presence(
            "controller",
            controller.config,
            identity,
            self._bus,
            leaving=self._leaving,
            # Every controller answers, by one of its workers.
            queue=f"discover-{identity.uuid}",
        )

    def start(self) -> None:
        """Subscribe, connect in the background, and begin to keep the route and the machines fresh."""
        bus = self._bus
        bus.subscribe("ingot.dea.beat", DeaBeat, self._beat)
        bus.subscribe("ingot.staging.*.log", None, self._controller.stagings.live.receive)
        bus.subscribe("droplet.exited", DropletExited, self._exited)
        bus.subscribe("cloudcontrollers.hm.requests", HmRequest, self._requested, queue="cc")
        bus.subscribe("cloudcontroller.bulk.credentials", None, self._credentials, queue="cc")
        tasks, usage = self._controller.tasks, self._controller.usage
        bus.subscribe("ingot.task.ended", TaskEnded, _threaded(tasks.ended), queue="cc")
        bus.subscribe("ingot.dea.usage", DeaUsage, _threaded(usage.dea), queue="cc")
        bus.subscribe("ingot.router.usage", RouterUsage, _threaded(usage.router), queue="cc")
        self._presence.start()
        self._machines.start()
        self._controller.housekeeping.start()
        self._controller.rolling_updates.start()
        self._controller.sweeper.start()

    def leave(self) -> None:
        """Unregister the route; requests still arrive for a moment, and are served."""
        self._controller.stopping.set()
        self._controller.rolling_updates.leave()
        self._presence.leave()

    def stop(self) -> None:
        """Stop the work on the bus."""
        self._machines.stop()
        self._controller.housekeeping.stop()
        self._controller.rolling_updates.stop()
        self._controller.sweeper.stop()
        self._presence.stop()

    def _leaving(self) -> bool:
        return self._controller.stopping.is_set() or self._controller.draining()

    async def _connected(self) -> None:
        self._controller.pool.listening(time.monotonic())

    async def _beat(self, message: Incoming[DeaBeat]) -> None:
        if not message.body.id.isprintable() or not 0 < len(message.body.id) <= _LONGEST_ID:
            # ccdb could not store it, nor the rows that are written with it.
            MALFORMED.labels("ingot.dea.beat").inc()
            return
        self._controller.pool.observe(message.body, time.monotonic(), time.time())

    async def _exited(self, message: Incoming[DropletExited]) -> None:
        self._controller.rolling_updates.exited(message.body)

    async def _credentials(self, message: Incoming[object]) -> None:
        config = self._controller.config
        await message.respond(BulkCredentials(user=config.bulk_user, password=config.bulk_password))

    async def _requested(self, message: Incoming[HmRequest]) -> None:
        # In a task: the next message must not wait for the database.
        aio.spawn(self._tasks, self._do(message.body), "health-manager-request")

    async def _do(self, request: HmRequest) -> None:
        async with self._room:
            try:
                await asyncio.to_thread(self._controller.lifecycle.requested, request)
            except Exception:
                logger.exception("health_manager_request_failed", app=request.droplet, op=request.op)

    def _keep_machines(self) -> None:
        if not self._bus.bus.connected:
            self._controller.pool.deaf()
            return
        now = time.monotonic()
        if self._looks.due(now):
            try:
                self._controller.platform_hosts.take_back()
            except (SQLAlchemyError, BusUnavailableError) as error:
                logger.warning("platform_hosts_not_taken_back", reason=type(error).__name__)
        if self._saves.due(now):
            try:
                machines.save(self._controller.db, self._controller.pool)
            except SQLAlchemyError as error:
                logger.warning("machines_not_saved", reason=type(error).__name__)
