"""The health manager: tracks desired and actual state, compares them, and requests repairs from controllers (protocol 5).

Every manager tracks both states; only the one that holds the lease sends requests, and only on a state that can
be trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter as Tally
from typing import Any

from prometheus_client import Counter, Gauge

from components.common import aio, log
from components.common.bus.client import Bus, Incoming
from components.common.bus.messages import (
    BulkCredentials,
    DeaBeat,
    DropletExited,
    DropletRef,
    HealthQuery,
    Heartbeat,
    HmRequest,
    StatusQuery,
)
from components.common.errors import BusError, MessageError
from components.common.identity import Identity
from components.health_manager import alerts, replies, trust
from components.health_manager.actual import ActualTable
from components.health_manager.alerts import Alerts
from components.health_manager.config import HealthManagerConfig
from components.health_manager.controllers import Controllers, ControllersError, count_users, read_apps
from components.health_manager.desired import DesiredTable
from components.health_manager.lease import Lease, LeaseState
from components.health_manager.repairs import Repairs
from components.health_manager.webhooks import Webhooks

_TICK = 0.1
# A loop that stood still for so long heard nothing: its silence is not the DEAs'.
_PAUSE = 1.5

LEADER = Gauge("ingot_hm_leader", "1 while this health manager leads.")
TRUSTED = Gauge("ingot_hm_picture_trusted", "1 while the state may be acted upon.")
LATENCY = Gauge("ingot_hm_nats_latency_seconds", "A message's way to the bus and back.")
DESIRED_READ = Counter("ingot_hm_desired_reads_total", "Readings of the desired state.", ["result"])
logger = log.get(__name__)


class HealthManager:
    """The component that `components.common.daemon.run` runs."""

    def __init__(self, config: HealthManagerConfig, bus: Bus, identity: Identity) -> None:
        s = config.intervals
        self._config, self._s, self._bus = config, s, bus
        self._credentials: BulkCredentials | None = None
        self._controllers = Controllers(config.controllers, self._bulk_credentials)
        self.desired = DesiredTable()
        self.table = ActualTable(s)
        self._pool = trust.PoolWatch(s)
        # Half of it may pass until another manager leads, and a little more until that one knows.
        self._webhooks = Webhooks(config.webhooks, config.address, 2 * s.lease_ttl)
        self._alerts = Alerts(self._webhooks.tell)
        self.repairs = Repairs(s, self.desired, self.table, self._alerts, time.monotonic())
        self._lease = Lease(
            self._controllers, LeaseState(identity.uuid, s.lease_ttl), s.lease_renew, self._turned
        )
        self._doubts: list[str] = [trust.BUS_LOST]
        self._doubted: dict[str, float] = {}
        self._read_now = asyncio.Event()
        self._ping_due = 0.0
        self._greet_again: float | None = None
        self._ticked = time.monotonic()
        self._latency = 0.0
        self._heard: Tally[str] = Tally()
        self._tasks: list[asyncio.Task[None]] = []
        bus.on_connect(self._connected)
        bus.subscribe("dea.heartbeat", Heartbeat, self._on_heartbeat)
        bus.subscribe("ingot.dea.beat", DeaBeat, self._on_beat)
        bus.subscribe("droplet.exited", DropletExited, self._on_exited)
        bus.subscribe("droplet.updated", DropletRef, self._on_updated)
        bus.subscribe("cloudcontrollers.hm.requests", HmRequest, self._on_request)
        bus.subscribe("healthmanager.status", StatusQuery, self._on_status)
        bus.subscribe("healthmanager.health", HealthQuery, self._on_health)
        bus.subscribe("healthmanager.nats.ping", None, self._on_ping)

    # Life cycle.

    async def start(self) -> None:
        """Begin to read, to listen and to watch the lease."""
        await self._webhooks.start()
        self._tasks = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("desired", self._keep_reading()),
                ("lease", self._lease.run()),
                # A tick that fails ends nothing: the next one sees a newer state.
                ("tick", aio.every(_TICK, self._tick, at_once=True, failed="tick_failed")),
            )
        ]

    async def stop(self) -> None:
        """Stop acting, give the lease back, and close."""
        await aio.cancel_and_wait(self._tasks)
        await self._webhooks.stop()
        await self._lease.release()
        await self._controllers.close()

    @property
    def leads(self) -> bool:
        """Return whether this manager may act."""
        return self._lease.state.leads(time.monotonic())

    def ready(self) -> list[str]:
        """Return the reasons why the state cannot be trusted; leading or not is no reason."""
        return list(self._doubts)

    def varz(self) -> dict[str, object]:
        """Return the facts of protocol 5.5, and the leader."""
        state = self._lease.state
        return {
            **replies.varz(self.desired, self.table, self.repairs.decisions),
            **{f"{name}_received": self._heard[name] for name in _COUNTED},
            "queue_length": len(self.repairs.queue),
            "nats_latency": self._latency,
            "leader": self.leads,
            "lease_holder": state.holder if self.leads else state.other,
            "lease_token": state.token,
            "picture_doubts": list(self._doubts),
            "starts_in_flight": self.table.in_flight(time.monotonic()),
            "alerts": self._alerts.lasting(),
        }

    # Subscriptions.

    async def _connected(self) -> None:
        now = time.monotonic()
        self.table.listen_from(now)
        await self._bus.publish("healthmanager.start")
        # Repeated after a while: DEAs that lost the bus as well may come back a moment later.
        self._greet_again = now + self._s.settle / 3

    async def _on_heartbeat(self, message: Incoming[Heartbeat]) -> None:
        self._heard["heartbeat_msgs"] += 1
        if self.table.heartbeat(message.body, time.monotonic()):
            self._dea_back(message.body.dea)

    async def _on_beat(self, message: Incoming[DeaBeat]) -> None:
        if self.table.beat(message.body, time.monotonic()):
            self._dea_back(message.body.id)

    async def _on_exited(self, message: Incoming[DropletExited]) -> None:
        self._heard["droplet_exited_msgs"] += 1
        now = time.monotonic()
        self.table.exited(message.body, now)
        if message.body.reason == "STOPPED":
            # An owner wanted that: the decision needs the present desired state.
            self.desired.touch(message.body.droplet, now)
            self._read_now.set()

    async def _on_updated(self, message: Incoming[DropletRef]) -> None:
        self._heard["droplet_updated_msgs"] += 1
        self.desired.touch(message.body.droplet, time.monotonic())
        self._read_now.set()

    async def _on_request(self, message: Incoming[HmRequest]) -> None:
        # The leader's requests: a successor must know the STARTs in flight.
        if self.leads:
            return
        request, now = message.body, time.monotonic()
        for index in request.indices or ():
            self.table.request_start(request.droplet, request.version, index, now)
        self.table.request_stop(request.droplet, request.instances or (), now)

    async def _on_status(self, message: Incoming[StatusQuery]) -> None:
        self._heard["healthmanager_status_msgs"] += 1
        if not self._doubts:
            reply = replies.status(message.body, self.desired, self.table, time.monotonic(), self._s)
            if reply is not None:
                await message.respond(reply)

    async def _on_health(self, message: Incoming[HealthQuery]) -> None:
        self._heard["healthmanager_health_request_msgs"] += 1
        # Every manager answers, leader or not: an asker takes the first reply about each application.
        if not self._doubts:
            for reply in replies.health(message.body, self.desired, self.table):
                await message.respond(reply)

    async def _on_ping(self, message: Incoming[Any]) -> None:
        if isinstance(message.body, int | float):
            self._latency = max(time.time() - message.body, 0.0)
            LATENCY.set(self._latency)

    def _dea_back(self, name: str) -> None:
        logger.info("dea_back", dea=name)
        self._alerts.set(alerts.DEA_LOST, name, on=False)

    def _turned(self, leads: bool) -> None:
        LEADER.set(leads)
        logger.info("lease_taken" if leads else "lease_lost", reign=self._lease.state.token)

    # Desired state.

    async def _bulk_credentials(self, renew: bool) -> BulkCredentials:
        config = self._config
        if config.bulk_password:
            return BulkCredentials(user=config.bulk_user, password=config.bulk_password)
        if self._credentials is None or renew:
            try:
                self._credentials = await self._bus.request(
                    "cloudcontroller.bulk.credentials", None, BulkCredentials, timeout=2.0
                )
            except (BusError, MessageError) as error:
                raise ControllersError(str(error)) from error
        return self._credentials

    async def _keep_reading(self) -> None:
        trouble = ""
        while True:
            self._read_now.clear()
            began = time.monotonic()
            try:
                apps, wall = await read_apps(self._controllers, self._config.bulk_batch)
            except ControllersError as error:
                DESIRED_READ.labels("failed").inc()
                if str(error) != trouble:
                    trouble = str(error)
                    logger.warning("desired_unreadable", reason=trouble)
            else:
                DESIRED_READ.labels("ok").inc()
                trouble = ""
                self.table.mark(self.desired.load(apps, began, wall))
                self._note_unknown(time.monotonic())
                users = await count_users(self._controllers)
                self.desired.total_users = users if users is not None else 0
            # Many changes are read once, and reading takes a third of the time at most.
            pause = max(min(0.5, self._s.desired_interval), 2 * (time.monotonic() - began))
            await asyncio.sleep(pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._read_now.wait(), max(self._s.desired_interval - pause, 0.05))

    def _note_unknown(self, now: float) -> None:
        for droplet, actual in self.table.apps.items():
            if droplet in self.desired.apps:
                actual.unknown_since = None
            elif actual.unknown_since is None:
                actual.unknown_since = now

    # Comparison.

    async def _tick(self) -> None:
        now = time.monotonic()
        if now - self._ticked > _PAUSE:
            logger.warning("paused", seconds=round(now - self._ticked, 1))
            self.table.listen_from(now, settle=False)
        self._ticked = now
        self._lease.check()
        self._webhooks.speak(speaks=self._lease.state.speaks)
        self._watch(now)
        if now >= self._ping_due:
            self._ping_due = now + self._s.nats_ping
            await self._bus.publish("healthmanager.nats.ping", f"{time.time():.6f}".encode())
        if self._greet_again is not None and now >= self._greet_again:
            self._greet_again = None
            await self._bus.publish("healthmanager.start")
        self.repairs.look(now, trusted=not self._doubts, acting=self._may_act(now))
        while self._may_act(time.monotonic()):
            request = self.repairs.next_request(time.monotonic())
            if request is None:
                break
            await self._bus.publish("cloudcontrollers.hm.requests", request)

    def _may_act(self, now: float) -> bool:
        state = self._lease.state
        return not self._doubts and state.leads(now) and now - state.since >= self._s.lead_settle

    def _watch(self, now: float) -> None:
        """Check the state itself: silent DEAs, and whether the rest can be trusted."""
        held = 0
        # Without a connection, or just after one began, silence of a DEA means nothing.
        if self._bus.connected and self.table.settled(now):
            silence = self._pool.look(self.table, now)
            held = len(silence.held)
            for dea in silence.lost:
                left = not dea.instances and (dea.evacuating or dea.stopping)
                lost = self.table.lose(dea, now)
                logger.info("dea_left" if left else "dea_lost", dea=dea.id, instances=lost)
                self._alerts.set(alerts.DEA_LOST, dea.id, on=not left, instances=lost)
        doubts = trust.doubts(
            desired=self.desired,
            table=self.table,
            connected=self._bus.connected,
            held=held,
            now=now,
            settings=self._s,
        )
        if doubts != self._doubts:
            logger.info("picture_doubts", doubts=doubts)
        self._doubts = doubts
        TRUSTED.set(not doubts)
        self._doubted = {d: self._doubted.get(d, now) for d in doubts}
        for doubt in (trust.BUS_LOST, trust.STALE, trust.SILENT):
            # The bus is briefly away at every start, and when its server restarts: no alert for that.
            patience = self._s.settle if doubt == trust.BUS_LOST else 0.0
            on = now - self._doubted.get(doubt, now + 1) >= patience
            self._alerts.set(alerts.PICTURE_STALE, doubt, on=on, held_deas=held)


_COUNTED = (
    "heartbeat_msgs",
    "droplet_exited_msgs",
    "droplet_updated_msgs",
    "healthmanager_status_msgs",
    "healthmanager_health_request_msgs",
)
