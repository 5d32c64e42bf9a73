"""A small simulated platform on a simulated clock: controllers that obey, DEAs that beat, and one health manager's logic.

Nothing sleeps and nothing is mocked: the tables, the analysis, the queue and the trust are the real ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from components.common.bus.messages import (
    Capacity,
    DeaBeat,
    DropletExited,
    Heartbeat,
    HeartbeatEntry,
    HmRequest,
)
from components.health_manager import trust
from components.health_manager.actual import ActualTable
from components.health_manager.alerts import Alerts
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredTable, parse_row
from components.health_manager.repairs import Repairs

WALL = 1_700_000_000.0


@dataclass
class SimInstance:
    id: str
    droplet: int
    version: str
    index: int
    ready_at: float
    since: float

    def state(self, now: float) -> str:
        return "RUNNING" if now >= self.ready_at else "STARTING"


@dataclass
class SimDea:
    id: str
    instances: dict[str, SimInstance] = field(default_factory=dict)
    up: bool = True
    heard: bool = True
    evacuating: bool = False
    leaving: list[str] = field(default_factory=list)


def row(**changes: Any) -> dict[str, Any]:
    """One row of the bulk API, as a controller writes it."""
    return {
        "id": 1,
        "name": "hello",
        "state": "STARTED",
        "instances": 1,
        "staged_package_hash": "aa",
        "run_count": 1,
        "package_state": "STAGED",
        "last_updated": int(WALL) - 1000,
        "memory": 64,
        "framework": "wsgi",
        "runtime": "python3",
        **changes,
    }


class World:
    """The platform; `step` advances it by a tenth of a second."""

    def __init__(self, deas: int = 4, settings: Intervals | None = None, start_seconds: float = 0.5) -> None:
        self.s = settings or Intervals()
        self.now = 1000.0
        self.start_seconds = start_seconds
        self.rows: dict[int, dict[str, Any]] = {}
        self.deas = {f"dea{n}": SimDea(f"dea{n}") for n in range(deas)}
        self.desired, self.table = DesiredTable(), ActualTable(self.s)
        self.pool = trust.PoolWatch(self.s)
        self.repairs = Repairs(self.s, self.desired, self.table, Alerts(), self.now)
        self.bulk_works = True
        self.obey = True
        self.requests: list[tuple[float, HmRequest]] = []
        self.doubts: list[str] = []
        self._serial = 0
        self._ticks = 0
        self.table.listen_from(self.now)

    # What operators, owners and accidents do.

    def app(self, droplet: int = 1, **changes: Any) -> None:
        self.rows[droplet] = row(**{**self.rows.get(droplet, {}), "id": droplet, **changes})

    def change(self, droplet: int, **changes: Any) -> None:
        """An owner's change, announced as controllers announce it."""
        self.app(droplet, last_updated=int(WALL + self.now - 1000), **changes)
        self.desired.touch(droplet, self.now)

    def launch(
        self, droplet: int, index: int, dea: str | None = None, version: str | None = None
    ) -> SimInstance:
        """Start an instance as a controller places it: on the DEA with the fewest."""
        self._serial += 1
        fit = [d for d in self.deas.values() if d.up and d.heard and not d.evacuating]
        home = self.deas[dea] if dea else min(fit, key=lambda d: (len(d.instances), d.id))
        made = SimInstance(
            f"i{self._serial}",
            droplet,
            version or self.version(droplet),
            index,
            self.now + self.start_seconds,
            self.now,
        )
        home.instances[made.id] = made
        return made

    def version(self, droplet: int) -> str:
        return f"{self.rows[droplet]['staged_package_hash']}-{self.rows[droplet]['run_count']}"

    def launch_all(self) -> None:
        for droplet, of in self.rows.items():
            for index in range(of["instances"]):
                self.launch(droplet, index)

    def exit(self, instance: str, reason: str = "CRASHED", *, told: bool = True, gone: bool = True) -> None:
        """Say that an instance has ended; with `gone` false it is only said, as of one that is evacuated."""
        for dea in self.deas.values():
            named = dea.instances.get(instance)
            if gone:
                dea.instances.pop(instance, None)
            if named is not None and told and dea.heard:
                stamp = int(WALL) if reason == "CRASHED" else None
                self.table.exited(
                    DropletExited(
                        droplet=named.droplet,
                        version=named.version,
                        instance=named.id,
                        index=named.index,
                        reason=reason,
                        crash_timestamp=stamp,
                    ),
                    self.now,
                )
                if reason == "STOPPED":
                    self.desired.touch(named.droplet, self.now)

    def power_off(self, dea: str) -> None:
        self.deas[dea].up = False
        self.deas[dea].instances.clear()

    # How time goes by.

    def run(self, seconds: float) -> list[HmRequest]:
        """Let time pass; gives the requests made meanwhile."""
        before = len(self.requests)
        for _ in range(round(seconds * 10)):
            self.step()
        return [r for _, r in self.requests[before:]]

    def step(self) -> None:
        self.now = round(self.now + 0.1, 1)
        self._ticks += 1
        if self.bulk_works and (self._ticks % 50 == 1 or self.desired._touched):
            self._read()
        for number, dea in enumerate(self.deas.values()):
            if dea.up and dea.heard:
                self._speak(dea, number)
        held = 0
        if self.table.settled(self.now):
            silence = self.pool.look(self.table, self.now)
            held = len(silence.held)
            for lost in silence.lost:
                self.table.lose(lost, self.now)
        self.doubts = trust.doubts(
            desired=self.desired,
            table=self.table,
            connected=True,
            held=held,
            now=self.now,
            settings=self.s,
        )
        self.repairs.look(self.now, trusted=not self.doubts, acting=not self.doubts)
        while not self.doubts and (request := self.repairs.next_request(self.now)) is not None:
            self.requests.append((self.now, request))
            if self.obey:
                self._obey(request)

    def _read(self) -> None:
        apps = [parse_row(d, r) for d, r in self.rows.items()]
        self.table.mark(self.desired.load(apps, self.now, WALL + self.now - 1000))
        for droplet, actual in self.table.apps.items():
            if droplet in self.rows:
                actual.unknown_since = None
            elif actual.unknown_since is None:
                actual.unknown_since = self.now

    def _speak(self, dea: SimDea, number: int) -> None:
        if (self._ticks + number) % 100 == 1:
            self.heartbeat(dea)
        fresh = [i for i in dea.instances.values() if abs(i.ready_at - self.now) < 0.05]
        if fresh:
            self.heartbeat(dea, fresh)
        if (self._ticks + number) % 10 == 0:
            counts: dict[str, int] = {}
            for i in dea.instances.values():
                counts[str(i.droplet)] = counts.get(str(i.droplet), 0) + 1
            self.table.beat(
                DeaBeat(
                    id=dea.id,
                    address="127.0.0.1",
                    capacity=Capacity(memory=4096),
                    evacuating=dea.evacuating,
                    leaving=list(dea.leaving),
                    droplets=counts,
                ),
                self.now,
            )

    def heartbeat(self, dea: SimDea, some: list[SimInstance] | None = None) -> None:
        self.table.heartbeat(
            Heartbeat(
                dea=dea.id,
                droplets=[
                    HeartbeatEntry(
                        droplet=i.droplet,
                        version=i.version,
                        instance=i.id,
                        index=i.index,
                        state=i.state(self.now),
                        state_timestamp=int(i.since),
                    )
                    for i in (dea.instances.values() if some is None else some)
                ],
            ),
            self.now,
        )

    def _obey(self, request: HmRequest) -> None:
        """What a controller does with a request (protocol 2.4)."""
        of = self.rows.get(request.droplet)
        if request.op == "STOP":
            if of is None or of["last_updated"] == request.last_updated:
                for instance in request.instances or []:
                    self.exit(instance, "STOPPED")
            return
        wanted = (
            of is not None and of["state"] == "STARTED" and request.version == self.version(request.droplet)
        )
        if wanted and any(d.up and d.heard and not d.evacuating for d in self.deas.values()):
            for index in request.indices or []:
                self.launch(request.droplet, index)

    def running(self, droplet: int) -> list[int]:
        """The indices of the live version that really run, with repetitions."""
        return sorted(
            i.index
            for d in self.deas.values()
            for i in d.instances.values()
            if d.up and i.droplet == droplet and i.version == self.version(droplet)
        )
