"""The repair of differences between desired and actual state (protocol 5.2 to 5.4). Pure: no I/O, clock or memory.

For one application at a time: `decide` takes both states, and returns the indices to start and the
instances to stop, each with its reason. It never changes what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache

from components.health_manager.config import Intervals
from components.health_manager.desired import STARTED, DesiredApp
from components.health_manager.desired import STOPPED as APP_STOPPED
from components.health_manager.state import (
    CRASH,
    EXITED,
    LOST,
    NEVER,
    RUNNING,
    STOPPED,
    AppActual,
    Index,
    Instance,
)

MISSING, EVACUATING, FLAPPING = "missing", "evacuating", "flapping"
EXTRA, DUPLICATE, OLD_VERSION, STOPPED_APP, UNKNOWN_APP = (
    "extra",
    "duplicate",
    "old_version",
    "stopped_app",
    "unknown_app",
)
# Where one of these reasons is known, an owner's change cannot be the cause: they do not wait for `stable_state`.
_URGENCY = {EXITED: 0, EVACUATING: 0, LOST: 1, CRASH: 2, MISSING: 3, STOPPED: 3, FLAPPING: 4}
_AT_ONCE = frozenset((EXITED, EVACUATING, LOST, CRASH, FLAPPING))
_NOTHING = AppActual()


@dataclass(frozen=True, slots=True)
class Start:
    """A start of one index.

    Lower `priority` goes first: indices requested in vain least often, then applications without running instances before
    all others, then by reason.
    """

    index: int
    version: str
    reason: str
    priority: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop of one instance."""

    instance: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one application.

    `expired` are instances that no DEA has named for `droplet_lost`; `flapping` and `given_up` are indices; `missing`
    counts wanted indices without a starting or running instance.
    """

    starts: tuple[Start, ...] = ()
    stops: tuple[Stop, ...] = ()
    expired: tuple[str, ...] = ()
    flapping: tuple[int, ...] = ()
    given_up: tuple[int, ...] = ()
    running: int = 0
    missing: int = 0


@cache
def steady(running: int) -> Decision:
    """Return the decision about an application that is as wanted: one object for all of a size."""
    return Decision(running=running)


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """The facts that the decisions about all applications share."""

    evacuating: AbstractSet[str]  # DEAs
    listening_since: float
    now: float
    settings: Intervals
    # False where too many running instances are unknown at once: then the desired state is wrong.
    stop_unknown: bool = True
    # The time at which the desired state was read: later events may be of a version it could not know.
    read_at: float = math.inf
    # The instances that ask for a successor, though their DEAs stay.
    leaving: AbstractSet[str] = frozenset()

    @property
    def quiet(self) -> bool:
        """Return whether no instance leaves its place."""
        return not (self.evacuating or self.leaving)

    def leaves(self, instance: Instance) -> bool:
        """Return whether an instance is to stay only until its successor runs."""
        return instance.dea in self.evacuating or instance.id in self.leaving

    @property
    def silent_since(self) -> float:
        """Return the time of expiry: an instance not named since has expired; `NEVER` while listening is too recent."""
        lost = self.settings.droplet_lost
        return self.now - lost if self.now - self.listening_since > lost else NEVER


def decide(
    app: DesiredApp | None, actual: AppActual | None, context: DecisionContext, *, fresh: bool = True
) -> Decision:
    """Compare one application's two sides.

    Args:
        app: the desired state; None when it does not know the application.
        actual: the actual state; None when nothing is known of it.
        context: the evacuating DEAs, the time and the settings.
        fresh: False when a change of the application was reported after `app` was read.
    """
    actual = actual or _NOTHING
    if app is None:
        return _unknown(actual, context)
    version, silent_since = app.version, context.silent_since
    running: set[int] = set()
    silent: list[str] = []
    for instance in actual.live.values():
        if instance.state == RUNNING and (instance.version == version or app.serves(instance.version)):
            running.add(instance.index)
        if instance.seen < silent_since:
            silent.append(instance.id)
    if app.state == STARTED and context.quiet and not silent and _as_wanted(app, actual, running):
        return steady(len(running))
    expired = tuple(silent)
    stable = fresh and context.now - app.changed_at >= context.settings.stable_state
    if app.state == STARTED:
        return _started(app, actual, context, expired, len(running), fresh=fresh, stable=stable)
    stops: tuple[Stop, ...] = ()
    if app.state == APP_STOPPED and stable:
        stops = tuple(Stop(i, STOPPED_APP) for i in actual.live if _may_stop(actual, i, context))
    return Decision(stops=stops, expired=expired, running=len(running))


def restart_delay(crashes: int, s: Intervals) -> float:
    """Return the seconds for which a crashed index waits: 0 until it flaps, then doubling up to a bound (V12)."""
    over = crashes - s.flapping_death - 1
    return 0.0 if over < 0 else min(s.min_restart_delay * 2.0 ** min(over, 64), s.max_restart_delay)


def _as_wanted(app: DesiredApp, actual: AppActual, running: set[int]) -> bool:
    """Return whether every index has one running instance of the live version, and there is nothing else to remember."""
    return (
        len(actual.live) == app.instances == len(running)
        and not actual.indices
        and not app.updating
        and max(running, default=0) < app.instances
        and min(running, default=0) >= 0
    )


def _unknown(actual: AppActual, context: DecisionContext) -> Decision:
    silent_since = context.silent_since
    expired = tuple(i.id for i in actual.live.values() if i.seen < silent_since)
    patience = 2 * context.settings.desired_interval
    if (
        not context.stop_unknown
        or actual.unknown_since is None
        or context.now - actual.unknown_since <= patience
    ):
        return Decision(expired=expired)
    old = [i.id for i in actual.live.values() if context.now - i.first_seen > patience]
    return Decision(
        stops=tuple(Stop(i, UNKNOWN_APP) for i in old if _may_stop(actual, i, context)), expired=expired
    )


def _started(
    app: DesiredApp,
    actual: AppActual,
    context: DecisionContext,
    expired: tuple[str, ...],
    running: int,
    *,
    fresh: bool,
    stable: bool,
) -> Decision:
    parts = _parts(app, actual, context)
    places = parts.places
    stops = [Stop(i.id, EXTRA) for i in parts.beyond] if stable and not app.updating else []
    to_fill: list[tuple[int, str]] = []
    empty = 0
    for number in range(app.instances):
        present = places.get(number)
        if present is None:
            if number in parts.served:
                continue
            memory = _memory(app, actual, number)
            why = (memory.why if memory is not None else "") or MISSING
            to_fill.append((number, EVACUATING if number in parts.leaving else why))
            empty += number not in parts.leaving
        elif len(present) > 1 or not context.quiet:
            staying = [i for i in present if not context.leaves(i)]
            if staying:
                stops.extend(_surplus(staying, [i for i in present if context.leaves(i)]))
            elif number not in parts.served:
                to_fill.append((number, EVACUATING))
    stops.extend(_stops_of_old(app, parts.old, places, context, stable=stable))
    flapping, given_up = _crashers(app, actual, context)
    starts: tuple[Start, ...] = ()
    if to_fill and app.staged and app.version and fresh:
        starts = tuple(_starts(app, actual, to_fill, context, given_up, stable=stable))
    return Decision(
        starts,
        tuple(s for s in stops if _may_stop(actual, s.instance, context)),
        expired,
        flapping,
        given_up,
        running,
        empty,
    )


@dataclass(slots=True)
class _Parts:
    """A started application's instances, sorted by their part in it.

    While an update rolls, `served` and `leaving` are the indices where the version before runs, on DEAs that stay and on
    evacuating ones: neither missing nor surplus, because the update replaces them itself.
    """

    places: dict[int, list[Instance]] = field(default_factory=dict)
    beyond: list[Instance] = field(default_factory=list)
    old: list[Instance] = field(default_factory=list)
    served: set[int] = field(default_factory=set)
    leaving: set[int] = field(default_factory=set)


def _parts(app: DesiredApp, actual: AppActual, context: DecisionContext) -> _Parts:
    parts = _Parts()
    for instance in actual.live.values():
        number = instance.index
        if instance.version == app.version:
            if 0 <= number < app.instances:
                parts.places.setdefault(number, []).append(instance)
            else:
                parts.beyond.append(instance)
        elif not app.serves(instance.version):
            parts.old.append(instance)
        else:
            (parts.leaving if context.leaves(instance) else parts.served).add(number)
    return parts


def _memory(app: DesiredApp, actual: AppActual, number: int) -> Index | None:
    """Return the record of an index; during an update, that of the version before where the new one was not there yet."""
    memory = actual.indices.get((app.version, number))
    if memory is None and app.updating:
        memory = actual.indices.get((app.updating, number))
    return memory


def _surplus(staying: list[Instance], leaving: list[Instance]) -> list[Stop]:
    """Return the stops of one index's surplus instances; one on an evacuating DEA stops when a successor runs."""
    staying.sort(key=_seniority)
    gone = leaving if staying[0].state == RUNNING else []
    return [
        *(Stop(i.id, DUPLICATE) for i in staying[1:]),
        *(Stop(i.id, EVACUATING) for i in gone),
    ]


def _starts(
    app: DesiredApp,
    actual: AppActual,
    to_fill: list[tuple[int, str]],
    context: DecisionContext,
    given_up: tuple[int, ...],
    *,
    stable: bool,
) -> list[Start]:
    s, now = context.settings, context.now
    starts: list[Start] = []
    # Instances that DEAs count and have not named: answers to requests that are still under way.
    coming = sum(n for n, since in actual.unnamed.values() if now - since <= s.droplet_lost)
    in_flight = 0
    covered = app.instances - len(to_fill)
    for number, why in to_fill:
        reason = why
        memory = actual.indices.get((app.version, number))
        if memory is not None and now - memory.requested < s.restart_timeout:
            in_flight += 1
            continue
        if number in given_up:
            continue
        if memory is not None and why != EVACUATING and memory.flapping(now, s):
            if now < memory.crashed_at + restart_delay(memory.crashes, s):
                continue
            reason = FLAPPING
        if not stable and reason not in _AT_ONCE:
            continue
        tries = memory.tries if memory is not None else 0
        starts.append(Start(number, app.version, reason, (tries, covered + len(starts), _URGENCY[reason])))
    spare = max(coming - in_flight, 0)
    if spare:
        # An unnamed instance may be the missing one, unless that one was reported as gone.
        starts.sort(key=lambda start: start.reason == MISSING)
    return starts[: max(len(starts) - spare, 0)]


def _stops_of_old(
    app: DesiredApp,
    old: list[Instance],
    places: Mapping[int, list[Instance]],
    context: DecisionContext,
    *,
    stable: bool,
) -> list[Stop]:
    """Return the stops of an old version: when its successor runs, its index is not wanted, or its time is over."""
    if not stable:
        return []
    late = context.now - app.changed_at >= context.settings.version_grace
    return [
        Stop(i.id, OLD_VERSION)
        for i in old
        # An instance that came after the reading is of a version that the reading could not know.
        if i.first_seen < context.read_at
        if late or i.index >= app.instances or any(n.state == RUNNING for n in places.get(i.index, ()))
    ]


def _crashers(
    app: DesiredApp, actual: AppActual, context: DecisionContext
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if not actual.indices:
        return (), ()
    s = context.settings
    flapping = [
        (number, index)
        for (version, number), index in actual.indices.items()
        if version == app.version and number < app.instances and index.flapping(context.now, s)
    ]
    return tuple(sorted(n for n, _ in flapping)), tuple(sorted(n for n, i in flapping if i.gave_up(s)))


def _may_stop(actual: AppActual, instance: str, context: DecisionContext) -> bool:
    """Return whether an instance may be asked to stop: not before the last request timed out, and not when expired."""
    requested = actual.stop_requested.get(instance, NEVER)
    return (
        context.now - requested >= context.settings.restart_timeout
        and actual.live[instance].seen >= context.silent_since
    )


def _seniority(instance: Instance) -> tuple[bool, float, int, str]:
    """Return the order of one index's instances: running before starting, then the longest known."""
    return (instance.state != RUNNING, instance.first_seen, instance.since, instance.id)
