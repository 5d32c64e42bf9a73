"""The simulated platform with what can go wrong around the managers: several of them and one lease, a bus that pauses, late controllers.

Every manager has its own tables, fed by the same messages; the lease is decided by the real `LeaseState`. Controllers obey a request
some seconds after they heard it, and what is said while the bus is away is lost.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hm_world import WALL, World

from components.common.bus.messages import DeaBeat, DropletExited, Heartbeat, HmRequest
from components.health_manager import trust
from components.health_manager.actual import ActualTable
from components.health_manager.alerts import Alerts
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredTable, parse_row
from components.health_manager.lease import LeaseState
from components.health_manager.repairs import Repairs

LIVE = ("STARTING", "RUNNING")


class Mind:
    """One health manager's logic; `down_until` is when it comes back, with an empty head."""

    def __init__(self, name: str, settings: Intervals, now: float) -> None:
        self.name, self.s = name, settings
        self.desired, self.table = DesiredTable(), ActualTable(settings)
        self.pool = trust.PoolWatch(settings)
        self.repairs = Repairs(settings, self.desired, self.table, Alerts(), now)
        self.lease = LeaseState(name, settings.lease_ttl)
        self.next_attempt = now
        self.next_read = now
        self.down_until = 0.0
        self.greeted = True
        self.doubts: list[str] = []
        self.table.listen_from(now)


@dataclass
class Lease:
    """The row in ccdb."""

    holder: str = ""
    until: float = 0.0


@dataclass
class Fan:
    """What is said on the bus, to whom it reaches; stands where a world has its one table."""

    sim: Sim
    table: dict[str, Any] = field(default_factory=dict)

    def heartbeat(self, message: Heartbeat, now: float) -> None:
        for mind in self.sim.listeners():
            mind.table.heartbeat(message, now)

    def beat(self, message: DeaBeat, now: float) -> None:
        for mind in self.sim.listeners():
            mind.table.beat(message, now)

    def exited(self, message: DropletExited, now: float) -> None:
        for mind in self.sim.listeners():
            mind.table.exited(message, now)

    def touch(self, droplet: int, now: float) -> None:
        for mind in self.sim.listeners():
            mind.desired.touch(droplet, now)
            mind.next_read = now


class Sim(World):  # type: ignore[misc]  # a module of this folder, which mypy does not find
    """A world with `managers` minds; what must never happen is collected in `broken`."""

    now: float

    def __init__(
        self, seed: int, *, deas: int = 5, managers: int = 2, settings: Intervals | None = None
    ) -> None:
        super().__init__(deas=deas, settings=settings)
        self.dice = random.Random(seed)
        fan: Any = Fan(self)
        self.table = self.desired = fan
        self.lease = Lease()
        self.minds = [Mind(f"hm{n}", self.s, self.now) for n in range(managers)]
        self.bus_back = self.now
        self.bus_away = False
        self.broken: list[str] = []
        self.doubles: list[tuple[float, int, int]] = []
        self.most_in_flight = 0
        self._orders: list[tuple[float, HmRequest]] = []

    def listeners(self) -> list[Mind]:
        return [] if self.bus_away else [m for m in self.minds if self.now >= m.down_until]

    def leader(self) -> Mind | None:
        return next((m for m in self.minds if self.now >= m.down_until and m.lease.leads(self.now)), None)

    # Accidents.

    def pause_bus(self) -> None:
        self.bus_away = True

    def resume_bus(self) -> None:
        if self.bus_away:
            self.bus_away, self.bus_back = False, self.now
            for mind in self.listeners():
                mind.table.listen_from(self.now)
            for dea in self.deas.values():
                if dea.up:
                    self.heartbeat(dea)

    def kill(self, mind: Mind, seconds: float) -> None:
        """End a manager with SIGKILL; it starts again with nothing."""
        self._serial += 1
        fresh = Mind(f"hm-{self._serial}", self.s, self.now + seconds)
        fresh.down_until = self.now + seconds
        fresh.greeted = False
        self.minds[self.minds.index(mind)] = fresh

    def _greet(self, mind: Mind) -> None:
        """`healthmanager.start`: all DEAs name what they have."""
        mind.greeted = True
        mind.table.listen_from(self.now)
        for dea in self.deas.values():
            if dea.up:
                self.heartbeat(dea)

    # Time.

    def step(self) -> None:
        self.now = round(self.now + 0.1, 1)
        self._ticks += 1
        for number, dea in enumerate(self.deas.values()):
            if dea.up and not self.bus_away:
                self._speak(dea, number)
        for mind in self.minds:
            if self.now >= mind.down_until:
                if not mind.greeted and not self.bus_away:
                    self._greet(mind)
                self._think(mind)
        leaders = [m.name for m in self.minds if self.now >= m.down_until and m.lease.leads(self.now)]
        if len(leaders) > 1:
            self.broken.append(f"{self.now}: {leaders} lead")
        due = [o for at, o in self._orders if at <= self.now]
        self._orders = [(at, o) for at, o in self._orders if at > self.now]
        for order in due:
            self._obey(order)

    def _think(self, mind: Mind) -> None:
        now = self.now
        if self.bulk_works and now >= mind.next_read:
            mind.next_read = now + self.s.desired_interval
            apps = [parse_row(d, r) for d, r in self.rows.items()]
            mind.table.mark(mind.desired.load(apps, now, WALL + now - 1000))
            for droplet, actual in mind.table.apps.items():
                if droplet in self.rows:
                    actual.unknown_since = None
                elif actual.unknown_since is None:
                    actual.unknown_since = now
        if self.bulk_works and now >= mind.next_attempt:
            self._attempt(mind)
            mind.next_attempt = now + mind.lease.wait(self.s.lease_renew, now)
        held = 0
        if not self.bus_away and mind.table.settled(now):
            silence = mind.pool.look(mind.table, now)
            held = len(silence.held)
            for lost in silence.lost:
                mind.table.lose(lost, now)
        mind.doubts = trust.doubts(
            desired=mind.desired,
            table=mind.table,
            connected=not self.bus_away,
            held=held,
            now=now,
            settings=self.s,
        )
        lease = mind.lease
        acting = not mind.doubts and lease.leads(now) and now - lease.since >= self.s.lead_settle
        mind.repairs.look(now, trusted=not mind.doubts, acting=acting)
        while acting and (request := mind.repairs.next_request(now)) is not None:
            self._publish(mind, request)
        self.most_in_flight = max(self.most_in_flight, mind.table.in_flight(now) if acting else 0)

    def _attempt(self, mind: Mind) -> None:
        if self.now >= self.lease.until and self.lease.holder != mind.name:
            self.lease.holder = mind.name
        if self.lease.holder == mind.name:
            self.lease.until = self.now + self.s.lease_ttl
            mind.lease.granted(1, self.now, self.now)
        else:
            mind.lease.refused(self.lease.holder, 1, self.lease.until - self.now, self.now)

    def _publish(self, mind: Mind, request: HmRequest) -> None:
        now = self.now
        if self.bus_away or now - self.bus_back < self.s.settle / 2:
            self.broken.append(f"{now}: {request.op} on a bus that is away or just back")
        if mind.desired.age(now) > self.s.desired_max_age:
            self.broken.append(f"{now}: {request.op} on what was wanted {mind.desired.age(now):.0f} s ago")
        self.requests.append((now, request))
        for other in self.listeners():
            if other is not mind:
                for index in request.indices or ():
                    other.table.request_start(request.droplet, request.version, index, now)
                other.table.request_stop(request.droplet, request.instances or (), now)
        # A controller takes it in good time, or a little late.
        self._orders.append((now + self.dice.choice((0.1, 0.5, 3.0, 6.0)), request))

    def launch(self, droplet: int, index: int, dea: str | None = None, version: str | None = None) -> Any:
        """As a world's; a second instance beside one that runs and stays is noted."""
        wanted = version or self.version(droplet)
        for home in self.deas.values():
            if home.up and not home.evacuating:
                for there in home.instances.values():
                    if (there.droplet, there.index, there.version) == (droplet, index, wanted):
                        self.doubles.append((self.now, droplet, index))
        return super().launch(droplet, index, dea, version)
