"""A worker's subscriptions on the bus, its replies, and its route (protocol 2.2 to 2.4)."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from components.common import log
from components.common.bus import MALFORMED, Incoming
from components.common.component_logs import answer_logs
from components.common.errors import BusUnavailableError
from components.common.messages import (
    BulkCredentials,
    DeaBeat,
    DropletExited,
    HmRequest,
    RouterHello,
    RouterRegister,
)
from components.common.operation_messages import DeaUsage, RouterUsage, TaskEnded
from components.common.platform_hosts import REGISTER, UNREGISTER
from components.controller.composition import Controller
from components.controller.pool import machines

REGISTER_SECONDS = 20.0
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
        self._config = controller.config
        self._bus = controller.bus
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_PARALLEL)
        self._routed = True
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Subscribe, connect in the background, and begin to keep the route and the machines fresh."""
        bus, identity = self._bus, self._controller.identity
        # Every controller answers, by one of its workers.
        bus.subscribe("vcap.component.discover", None, self._discovered, queue=f"discover-{identity.uuid}")
        bus.subscribe("ingot.dea.beat", DeaBeat, self._beat)
        bus.subscribe("ingot.staging.*.log", None, self._controller.stagings.live.receive)
        bus.subscribe("droplet.exited", DropletExited, self._exited)
        bus.subscribe("router.start", RouterHello, self._router_started)
        bus.subscribe("cloudcontrollers.hm.requests", HmRequest, self._requested, queue="cc")
        bus.subscribe("cloudcontroller.bulk.credentials", None, self._credentials, queue="cc")
        tasks, usage = self._controller.tasks, self._controller.usage
        bus.subscribe("ingot.task.ended", TaskEnded, _threaded(tasks.ended), queue="cc")
        bus.subscribe("ingot.dea.usage", DeaUsage, _threaded(usage.dea), queue="cc")
        bus.subscribe("ingot.router.usage", RouterUsage, _threaded(usage.router), queue="cc")
        answer_logs(bus.bus, "controller", identity.uuid)
        bus.bus.on_connect(self._connected)
        bus.start()
        self._keeper.start()
        self._controller.housekeeping.start()
        self._controller.rolling_updates.start()
        self._controller.sweeper.start()

    def leave(self) -> None:
        """Unregister the route; requests still arrive for a moment, and are served."""
        self._controller.stopping.set()
        self._controller.rolling_updates.leave()
        self._tell(UNREGISTER)

    def stop(self) -> None:
        """Stop the work on the bus."""
        self._ending.set()
        self._controller.housekeeping.stop()
        self._controller.rolling_updates.stop()
        self._controller.sweeper.stop()
        self._keeper.join(timeout=5)
        self._bus.close()

    def _leaving(self) -> bool:
        return self._controller.stopping.is_set() or self._controller.draining()

    def _route(self) -> RouterRegister:
        return RouterRegister(
            host=self._config.address,
            port=self._config.port,
            uris=[self._config.api],
            tags={"component": "CloudController"},
        )

    def _tell(self, subjects: Iterable[str]) -> None:
        for subject in subjects:
            self._bus.publish(subject, self._route())

    async def _connected(self) -> None:
        self._controller.pool.listening(time.monotonic())
        await self._bus.bus.publish("vcap.component.announce", self._announcement())
        await self._register()
        await self._bus.bus.publish("router.greet")

    async def _register(self) -> None:
        if not self._leaving():
            for subject in REGISTER:
                await self._bus.bus.publish(subject, self._route())

    def _announcement(self, *, uptime: bool = False) -> object:
        status = self._config.status
        return self._controller.identity.announcement(
            f"{self._config.address}:{self._config.port}", [status.user, status.password], uptime=uptime
        )

    async def _discovered(self, message: Incoming[object]) -> None:
        await message.respond(self._announcement(uptime=True))

    async def _beat(self, message: Incoming[DeaBeat]) -> None:
        if not message.body.id.isprintable() or not 0 < len(message.body.id) <= _LONGEST_ID:
            # ccdb could not store it, nor the rows that are written with it.
            MALFORMED.labels("ingot.dea.beat").inc()
            return
        self._controller.pool.observe(message.body, time.monotonic(), time.time())

    async def _exited(self, message: Incoming[DropletExited]) -> None:
        self._controller.rolling_updates.exited(message.body)

    async def _router_started(self, _message: Incoming[RouterHello]) -> None:
        await self._register()

    async def _credentials(self, message: Incoming[object]) -> None:
        await message.respond(
            BulkCredentials(user=self._config.bulk_user, password=self._config.bulk_password)
        )

    async def _requested(self, message: Incoming[HmRequest]) -> None:
        # In a task: the next message must not wait for the database.
        task = asyncio.create_task(self._do(message.body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, request: HmRequest) -> None:
        async with self._room:
            try:
                await asyncio.to_thread(self._controller.lifecycle.requested, request)
            except Exception:
                logger.exception("health_manager_request_failed", app=request.droplet, op=request.op)

    def _keep(self) -> None:
        registered = saved = time.monotonic()
        looked = -math.inf
        while not self._ending.wait(LOOK_SECONDS):
            now = time.monotonic()
            if not self._bus.bus.connected:
                self._controller.pool.deaf()
                continue
            routed = not self._leaving()
            if routed and (not self._routed or now - registered >= REGISTER_SECONDS):
                registered = now
                self._tell(REGISTER)
            elif self._routed and not routed:
                self._tell(UNREGISTER)
            self._routed = routed
            if now - looked >= self._config.sweep_seconds:
                looked = now
                try:
                    self._controller.platform_hosts.take_back()
                except (SQLAlchemyError, BusUnavailableError) as error:
                    logger.warning("platform_hosts_not_taken_back", reason=type(error).__name__)
            if now - saved >= SAVE_SECONDS:
                saved = now
                try:
                    machines.save(self._controller.db, self._controller.pool)
                except SQLAlchemyError as error:
                    logger.warning("machines_not_saved", reason=type(error).__name__)
