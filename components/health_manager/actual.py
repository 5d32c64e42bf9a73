"""The actual picture: what the DEAs say they run (section 5.3). A table fed by events; no I/O, no clock of its own.

Times are monotonic seconds, except those named `since`, which are the wire's (whole seconds since 1970).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from components.common.messages import DeaBeat, DropletExited, Heartbeat, HeartbeatEntry
from components.health_manager.config import Intervals

NEVER = float("-inf")
LIVE = frozenset(("STARTING", "RUNNING"))
RUNNING, CRASHED = "RUNNING", "CRASHED"
# Why an index has nothing: what became of the instance it had.
LOST, EXITED, STOPPED = "lost", "dea_exit", "stopped"
CRASH = "crashed"
_EVACUATION = "DEA_EVACUATION"
_REASONS = {"CRASHED": CRASH, "DEA_SHUTDOWN": EXITED, _EVACUATION: EXITED}
_GONE_MEMORY = 600.0
_BEAT_BOUNDS = (0.2, 60.0)


@dataclass(slots=True)
class Instance:
    """One instance that starts or runs."""

    id: str
    version: str
    index: int
    state: str
    since: int
    dea: str
    first_seen: float
    seen: float


@dataclass(slots=True)
class Crash:
    """One crashed instance."""

    version: str
    index: int
    since: int
    seen: float


@dataclass(slots=True)
class Index:
    """What is remembered of one index of one version: the START in flight, its crashes, why it is empty."""

    requested: float = NEVER
    crashes: int = 0
    crashed_at: float = NEVER
    crashed_since: int = 0
    why: str = ""

    def gave_up(self, s: Intervals) -> bool:
        """True when it has crashed so often that it is not started again before its owner changes it."""
        return 0 <= s.giveup_crash_number < self.crashes and self.crashes > s.flapping_death

    def flapping(self, now: float, s: Intervals) -> bool:
        """True when it has crashed too often too recently."""
        recent = now - self.crashed_at <= s.flapping_timeout
        return self.crashes > s.flapping_death and (recent or self.gave_up(s))


@dataclass(slots=True)
class AppActual:
    """Everything known of one application's instances."""

    live: dict[str, Instance] = field(default_factory=dict)
    crashed: dict[str, Crash] = field(default_factory=dict)
    indices: dict[tuple[str, int], Index] = field(default_factory=dict)
    # DEA -> (instances it counts in its beats and has not named yet, since when).
    unnamed: dict[str, tuple[int, float]] = field(default_factory=dict)
    stop_requested: dict[str, float] = field(default_factory=dict)
    # Since when the desired picture has not known this application.
    unknown_since: float | None = None

    def index(self, version: str, number: int) -> Index:
        """Give the memory of an index, made at need."""
        return self.indices.setdefault((version, number), Index())

    def empty(self) -> bool:
        """True when there is nothing left to remember."""
        return not (self.live or self.crashed or self.indices or self.unnamed)


@dataclass(slots=True)
class Dea:
    """One DEA as heard. `interval` is None for one that sends no `ingot.dea.beat`."""

    id: str
    seen: float
    interval: float | None = None
    evacuating: bool = False
    stopping: bool = False
    lost_at: float | None = None
    instances: dict[int, set[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    # Application -> the live instances its last heartbeat named.
    named: dict[int, set[str]] = field(default_factory=dict)
    # Application -> beats in a row that counted fewer instances than are known.
    short: dict[int, int] = field(default_factory=dict)
    unnamed: set[int] = field(default_factory=set)
    moved: bool = False

    def limit(self, s: Intervals) -> float:
        """Give the silence after which it is lost, in seconds."""
        if self.interval is None:
            return s.droplet_lost
        limit = s.beats_missed * self.interval
        return max(limit, s.stopping_grace) if self.stopping else limit


class ActualTable:
    """All instances and all DEAs, by what was heard."""

    def __init__(self, settings: Intervals) -> None:
        self.settings = settings
        self.apps: dict[int, AppActual] = {}
        self.deas: dict[str, Dea] = {}
        self.listening_since = NEVER
        self.settling_since = NEVER
        self._gone: dict[str, tuple[float, bool]] = {}
        self._dirty: set[int] = set()

    # What is heard.

    def listen_from(self, now: float, *, settle: bool = True) -> None:
        """Begin to listen (again): no silence is counted from before.

        Args:
            now: the time.
            settle: False where nothing was missed, only read late.
        """
        self.listening_since = now
        if settle:
            self.settling_since = now

    def heartbeat(self, message: Heartbeat, now: float) -> bool:
        """Take a `dea.heartbeat`; it may name all instances of a DEA or only one. True when the DEA came back."""
        back = self._hear(message.dea, now) if message.dea else False
        named: dict[int, set[str]] = {}
        for entry in message.droplets:
            if entry.state in LIVE:
                named.setdefault(entry.droplet, set()).add(entry.instance)
            self._entry(entry, message.dea, now)
        if message.dea:
            self.deas[message.dea].named.update(named)
        return back

    def beat(self, message: DeaBeat, now: float) -> bool:
        """Take an `ingot.dea.beat`. True when the DEA came back from being lost."""
        back = self._hear(message.id, now)
        dea = self.deas[message.id]
        dea.interval = min(max(message.interval, _BEAT_BOUNDS[0]), _BEAT_BOUNDS[1])
        if message.evacuating != dea.evacuating:
            self._dirty.update(dea.instances)
        dea.evacuating, dea.stopping = message.evacuating, message.stopping
        if dea.moved or message.droplets != dea.counts:
            dea.counts = message.droplets
            dea.moved = self._compare(dea, now)
        return back

    def exited(self, message: DropletExited, now: float) -> None:
        """Take a `droplet.exited`: an instance is gone, and its reason is the reason for what follows."""
        key = (message.version, message.index)
        app = self._app(message.droplet)
        crashed = message.reason == CRASHED
        if crashed:
            since = message.crash_timestamp or 0
            app.crashed[message.instance] = Crash(*key, since, now)
        if message.instance in self._gone:
            self._gone[message.instance] = (now, True)
            return
        known = app.live.get(message.instance)
        if message.reason == _EVACUATION and known is not None and known.dea:
            # It runs on, and serves, until its successor does. Its DEA says so in its beats, if it sends any.
            self.deas[known.dea].evacuating = True
            self._dirty.add(message.droplet)
            return
        index = app.index(*key)
        why = _REASONS.get(message.reason, STOPPED)
        if known is not None:
            self._remove(message.droplet, known, why, now, exited=True, since=message.crash_timestamp or 0)
        else:
            self._gone[message.instance] = (now, True)
            # Not known yet, so it is the one last asked for: that request has been answered.
            if why != STOPPED and not any((i.version, i.index) == key for i in app.live.values()):
                index.requested, index.why = NEVER, why
            if crashed:
                self._count(index, message.crash_timestamp or 0, now)
        self._dirty.add(message.droplet)

    # What is concluded.

    def silence(self, dea: Dea, now: float) -> float:
        """Give the seconds for which a DEA could have been heard and was not."""
        return now - max(dea.seen, self.listening_since)

    def lose(self, dea: Dea, now: float) -> int:
        """Take a DEA for lost, and its instances with it; gives their number."""
        dea.lost_at = now
        dea.counts, dea.named, dea.short = {}, {}, {}
        for droplet in dea.unnamed:
            self.apps[droplet].unnamed.pop(dea.id, None)
        dea.unnamed = set()
        return self.drop([(d, i) for d, ids in dea.instances.items() for i in ids], now)

    def drop(self, lost: Iterable[tuple[int, str]], now: float) -> int:
        """Take instances, `(application, id)`, for gone without a word of theirs; gives how many were known."""
        number = 0
        for droplet, name in lost:
            app = self.apps.get(droplet)
            instance = app.live.get(name) if app else None
            if instance is not None:
                self._remove(droplet, instance, LOST, now, exited=False)
                number += 1
        return number

    def forget(self, dea: Dea) -> None:
        """Strike a lost DEA from the list."""
        del self.deas[dea.id]

    # What is asked for.

    def request_start(self, droplet: int, version: str, index: int, now: float) -> None:
        """Remember that a START for this index is in flight."""
        self._app(droplet).index(version, index).requested = now

    def request_stop(self, droplet: int, instances: Iterable[str], now: float) -> None:
        """Remember that these instances have been asked to stop."""
        self._app(droplet).stop_requested.update(dict.fromkeys(instances, now))

    # Housekeeping.

    def take_dirty(self) -> set[int]:
        """Hand over the applications about which something has changed."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def mark(self, droplets: Iterable[int]) -> None:
        """Have applications looked at again."""
        self._dirty.update(droplets)

    def tidy(self, droplet: int, version: str | None, now: float) -> None:
        """Forget what no longer matters of an application; `version` is its live one, None when it is unknown."""
        app = self.apps.get(droplet)
        if app is None:
            return
        s = self.settings
        for name in [n for n, c in app.crashed.items() if now - c.seen > s.crash_memory]:
            del app.crashed[name]
        for key, index in list(app.indices.items()):
            if now - index.requested <= s.restart_timeout:
                continue
            quiet = now - index.crashed_at > s.flapping_timeout and not index.gave_up(s)
            if key[0] != version or (quiet and not index.why):
                del app.indices[key]
        for name in [n for n in app.stop_requested if n not in app.live]:
            del app.stop_requested[name]
        if app.empty():
            del self.apps[droplet]

    def prune(self, now: float) -> None:
        """Forget instances that went long ago."""
        for name in [n for n, (when, _) in self._gone.items() if now - when > _GONE_MEMORY]:
            del self._gone[name]

    # Inside.

    def _app(self, droplet: int) -> AppActual:
        app = self.apps.get(droplet)
        if app is None:
            app = self.apps[droplet] = AppActual()
        return app

    def _hear(self, name: str, now: float) -> bool:
        dea = self.deas.get(name)
        if dea is None:
            self.deas[name] = Dea(name, now)
            return False
        dea.seen = now
        back = dea.lost_at is not None
        dea.lost_at = None
        return back

    def _entry(self, entry: HeartbeatEntry, dea: str, now: float) -> None:
        app = self._app(entry.droplet)
        known = app.live.get(entry.instance)
        if entry.state not in LIVE:
            if entry.state == CRASHED:
                app.crashed[entry.instance] = Crash(entry.version, entry.index, entry.state_timestamp, now)
            if known is not None:
                why = CRASH if entry.state == CRASHED else STOPPED
                self._remove(entry.droplet, known, why, now, exited=True, since=entry.state_timestamp)
            return
        if known is None:
            if self._gone.get(entry.instance, (now, False))[1]:
                return  # it has exited; this was written before
            known = app.live[entry.instance] = Instance(
                entry.instance,
                entry.version,
                entry.index,
                entry.state,
                entry.state_timestamp,
                "",
                now,
                now,
            )
            index = app.indices.get((entry.version, entry.index))
            returned = self._gone.pop(entry.instance, None) is not None
            if index is not None:
                index.why = ""
                # One that was lost and is back is not the one that was asked for: that may still come.
                index.requested = index.requested if returned else NEVER
            self._dirty.add(entry.droplet)
        elif known.state != entry.state:
            self._dirty.add(entry.droplet)
        known.state, known.since, known.seen = entry.state, entry.state_timestamp, now
        if known.dea != dea:
            self._place(entry.droplet, known, dea)

    def _place(self, droplet: int, instance: Instance, dea: str) -> None:
        self._displace(droplet, instance)
        instance.dea = dea
        if dea:
            home = self.deas[dea]
            home.instances.setdefault(droplet, set()).add(instance.id)
            home.moved = True

    def _displace(self, droplet: int, instance: Instance) -> None:
        home = self.deas.get(instance.dea)
        if home is None:
            return
        home.moved = True
        ids = home.instances.get(droplet, set())
        ids.discard(instance.id)
        if not ids:
            home.instances.pop(droplet, None)
        home.named.get(droplet, set()).discard(instance.id)

    def _remove(
        self, droplet: int, instance: Instance, why: str, now: float, *, exited: bool, since: int = 0
    ) -> None:
        app = self.apps[droplet]
        del app.live[instance.id]
        app.stop_requested.pop(instance.id, None)
        self._displace(droplet, instance)
        self._gone[instance.id] = (now, exited)
        index = app.index(instance.version, instance.index)
        index.why = why
        if why == CRASH:
            self._count(index, since, now)
        self._dirty.add(droplet)

    def _count(self, index: Index, since: int, now: float) -> None:
        quiet = now - index.crashed_at > self.settings.flapping_timeout
        index.crashes = 1 if quiet else index.crashes + 1
        index.crashed_at, index.crashed_since = now, since

    def _compare(self, dea: Dea, now: float) -> bool:
        """Hold a DEA's counts against what is known of it; True while they differ."""
        counts = {int(d): n for d, n in dea.counts.items() if d.isdigit()}
        unnamed: set[int] = set()
        short: dict[int, int] = {}
        for droplet in counts.keys() | dea.instances.keys():
            counted, known = counts.get(droplet, 0), dea.instances.get(droplet, set())
            if counted > len(known):
                unnamed.add(droplet)
                app = self._app(droplet)
                app.unnamed[dea.id] = (counted - len(known), app.unnamed.get(dea.id, (0, now))[1])
            elif counted < len(known):
                # Twice in a row, as a beat may have been written just before an instance came.
                short[droplet] = dea.short.get(droplet, 0) + 1
                named = dea.named.get(droplet, set()) if counted else set()
                if short[droplet] > 1 and len(named) == counted:
                    del short[droplet]
                    self.drop([(droplet, i) for i in known - named], now)
        for droplet in dea.unnamed - unnamed:
            self.apps[droplet].unnamed.pop(dea.id, None)
            self._dirty.add(droplet)
        dea.unnamed, dea.short = unnamed, short
        return bool(unnamed or short)
