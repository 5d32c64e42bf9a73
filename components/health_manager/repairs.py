"""The comparison of both states: the order of applications, and the requests that follow.

Changed applications are checked immediately; all are checked from time to time, a slice of computing time a call,
so that messages and the lease have their turn however large the platform is. No I/O.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import deque

from prometheus_client import Counter, Gauge, Histogram

from components.common import log
from components.common.bus.messages import HmRequest
from components.health_manager import alerts, capacity, trust
from components.health_manager.actual import ActualTable
from components.health_manager.alerts import Alerts
from components.health_manager.analysis import FLAPPING, Decision, DecisionContext, Start, Stop, decide
from components.health_manager.config import Intervals
from components.health_manager.desired import STARTED, DesiredTable
from components.health_manager.pace import PaceQueue

_SLICE = 0.05
_BITE = 100
_DEA_FORGET = 600.0

ACTIONS = Counter("ingot_hm_actions_total", "Requests to the controllers.", ["op", "reason"])
QUEUE = Gauge("ingot_hm_queue_length", "Requests that wait their turn.")
MISSING = Gauge("ingot_hm_missing_instances", "Wanted instances with nothing that starts or runs.")
WANTED = Gauge("ingot_hm_wanted_instances", "Instances of started applications.")
RUNNING = Gauge("ingot_hm_running_instances", "Instances that run.")
FLAPPERS = Gauge("ingot_hm_flapping_instances", "Wanted instances that crash again and again.")
GIVEN_UP = Gauge("ingot_hm_given_up_instances", "Of these, those that are not started again.")
IN_FLIGHT = Gauge("ingot_hm_starts_in_flight", "Starts that have been asked for and not answered.")
POOL_MEMORY = Gauge("ingot_hm_pool_memory_mb", "Memory of the DEAs that take instances.")
POOL_FREE = Gauge("ingot_hm_pool_free_mb", "Of that, what is not reserved.")
DEAS = Gauge("ingot_hm_deas", "DEAs by state.", ["state"])
PASS = Histogram(
    "ingot_hm_pass_seconds", "Computing time of a full pass.", buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10)
)
logger = log.get(__name__)


class Repairs:
    """The comparison of both states, with the requests that wait.

    Args:
        settings: timings and limits.
        desired: the desired state.
        table: the actual state.
        flags: the alerts for flapping applications.
        now: the time, monotonic.
    """

    def __init__(
        self, settings: Intervals, desired: DesiredTable, table: ActualTable, flags: Alerts, now: float
    ) -> None:
        self._s, self._desired, self._table, self._alerts = settings, desired, table, flags
        self.queue = PaceQueue(settings.dequeueing_rate, now)
        self.decisions: dict[int, Decision] = {}
        self._changed: set[int] = set()
        self._ahead: deque[int] = deque()
        self._pass_due = now
        self._pass_seconds = 0.0
        self._stop_unknown = True
        self._acting = False

    def look(self, now: float, *, trusted: bool, acting: bool) -> None:
        """Check changed applications, and continue the pass.

        Args:
            now: the time.
            trusted: whether the states may be acted upon.
            acting: whether this health manager is the one to act; implies `trusted`.
        """
        if acting != self._acting:
            # Findings from a time when it could not act, or before it had to stop, do not count.
            self._acting = acting
            self.queue.clear()
            self._ahead.clear()
            self._pass_due = now
        self._changed |= self._table.take_dirty()
        if now >= self._pass_due and not self._ahead:
            self._pass_due = now + self._s.droplets_analysis
            self._begin_pass(now)
            if trusted:
                self._watch_capacity()
        context = DecisionContext(
            frozenset(d.id for d in self._table.deas.values() if d.evacuating),
            self._table.listening_since,
            now,
            self._s,
            self._stop_unknown,
            self._desired.fetched_at,
            frozenset().union(*(d.leaving for d in self._table.deas.values())),
        )
        began = time.monotonic()
        while (self._changed or self._ahead) and time.monotonic() - began < _SLICE:
            for _ in range(min(len(self._changed), _BITE)):
                self._decide(self._changed.pop(), context, trusted=trusted)
            for _ in range(min(len(self._ahead), 0 if self._changed else _BITE)):
                droplet = self._ahead.popleft()
                app = self._desired.apps.get(droplet)
                self._table.tidy(droplet, app.version if app else None, now)
                self._decide(droplet, context, trusted=trusted)
        self._pass_seconds += time.monotonic() - began
        QUEUE.set(len(self.queue))
        IN_FLIGHT.set(self._table.in_flight(now))

    @property
    def left(self) -> int:
        """Return how many applications are still to be checked, in this pass or because they have changed."""
        return len(self._changed) + len(self._ahead)

    def next_request(self, now: float) -> HmRequest | None:
        """Return the next message for the controllers, recorded as sent; None when nothing waits or the pace forbids it."""
        request = self.queue.take(now, starts=self._table.in_flight(now) < self._s.starts_in_flight)
        if request is None:
            return None
        if request.start is not None:
            return self._ask_start(request.droplet, request.last_updated, request.start, now)
        return self._ask_stop(request.droplet, request.last_updated, request.stops, now)

    def _ask_start(self, droplet: int, last_updated: int, start: Start, now: float) -> HmRequest:
        self._table.request_start(droplet, start.version, start.index, now)
        ACTIONS.labels("START", start.reason).inc()
        logger.info("start_requested", droplet=droplet, index=start.index, reason=start.reason)
        return HmRequest(
            droplet=droplet,
            op="START",
            last_updated=last_updated,
            version=start.version,
            indices=[start.index],
            flapping=start.reason == FLAPPING,
        )

    def _ask_stop(self, droplet: int, last_updated: int, stops: tuple[Stop, ...], now: float) -> HmRequest:
        names = [s.instance for s in stops]
        self._table.request_stop(droplet, names, now)
        for stop in stops:
            ACTIONS.labels("STOP", stop.reason).inc()
        reasons = sorted({s.reason for s in stops})
        logger.info("stop_requested", droplet=droplet, instances=names, reasons=reasons)
        return HmRequest(droplet=droplet, op="STOP", last_updated=last_updated, instances=names)

    def _begin_pass(self, now: float) -> None:
        PASS.observe(self._pass_seconds)
        self._pass_seconds = 0.0
        desired, table = self._desired.apps, self._table
        for droplet in self.decisions.keys() - desired.keys() - table.apps.keys():
            del self.decisions[droplet]
        # All of them, changed ones first.
        every = desired.keys() | table.apps.keys()
        self._ahead.extend(self._changed & every)
        self._ahead.extend(every - self._changed)
        self._changed.clear()
        table.prune(now)
        unknown = self._desired.loaded and trust.many_unknown(self._desired, table, self._s)
        self._stop_unknown = not unknown
        self._alerts.set(alerts.PICTURE_STALE, trust.UNKNOWN, on=unknown)
        for dea in list(table.deas.values()):
            if dea.lost_at is not None and now - dea.lost_at > _DEA_FORGET:
                table.forget(dea)
                self._alerts.set(alerts.DEA_LOST, dea.id, on=False)
        states = Tally("lost" if d.lost_at is not None else "up" for d in table.deas.values())
        for state in ("up", "lost"):
            DEAS.labels(state).set(states[state])
        decisions = self.decisions.values()
        MISSING.set(sum(v.missing for v in decisions))
        RUNNING.set(sum(v.running for v in decisions))
        FLAPPERS.set(sum(len(v.flapping) for v in decisions))
        GIVEN_UP.set(sum(len(v.given_up) for v in decisions))
        WANTED.set(sum(a.instances for a in desired.values() if a.state == STARTED))
        self._alerts.keep(alerts.APP_FLAPPING, (str(d) for d, v in self.decisions.items() if v.flapping))
        self._alerts.keep(alerts.APP_GIVEN_UP, (str(d) for d, v in self.decisions.items() if v.given_up))

    def _watch_capacity(self) -> None:
        room = capacity.room(self._table.deas.values(), self._desired.apps.values())
        if room is None:
            return
        POOL_MEMORY.set(room.memory)
        POOL_FREE.set(room.free)
        reported = self._alerts.active(alerts.CAPACITY_LOW)
        facts: dict[str, dict[str, object]] = {
            capacity.POOL: {"memory_mb": room.memory, "free_mb": room.free},
            capacity.LARGEST: {
                "needs_mb": room.largest,
                "most_free_mb": room.most_free,
                "name": room.largest_name,
            },
        }
        for subject, fact in facts.items():
            low = room.low(subject, self._s, already=subject in reported)
            self._alerts.set(alerts.CAPACITY_LOW, subject, on=low, **fact)

    def _decide(self, droplet: int, context: DecisionContext, *, trusted: bool) -> None:
        app = self._desired.apps.get(droplet)
        actual = self._table.apps.get(droplet)
        decision = decide(app, actual, context, fresh=self._desired.fresh(droplet))
        self.decisions[droplet] = decision
        name = app.name if app else ""
        if decision.flapping:
            self._alerts.set(
                alerts.APP_FLAPPING, str(droplet), on=True, name=name, indices=list(decision.flapping)
            )
        if decision.given_up:
            self._alerts.set(
                alerts.APP_GIVEN_UP, str(droplet), on=True, name=name, indices=list(decision.given_up)
            )
        if trusted and decision.expired:
            self._table.drop([(droplet, i) for i in decision.expired], context.now)
        if self._acting:
            self.queue.replace(droplet, app.last_updated if app else 0, decision.starts, decision.stops)
