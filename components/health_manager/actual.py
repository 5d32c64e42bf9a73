"""The actual state: the instances that DEAs report (protocol 5.3). A table fed by events; no I/O, no clock of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from components.common.bus.messages import DeaBeat, DropletExited, Heartbeat, HeartbeatEntry
from components.common.digits import whole_number
from components.health_manager.config import Intervals
from components.health_manager.state import (
    CRASH,
    CRASHED,
    EXITED,
    LIVE,
    LOST,
    NEVER,
    STOPPED,
    AppActual,
    Crash,
    Dea,
    Index,
    Instance,
)

_EVACUATION = "DEA_EVACUATION"
_REASONS = {"CRASHED": CRASH, "DEA_SHUTDOWN": EXITED, _EVACUATION: EXITED}
_GONE_MEMORY = 600.0
_BEAT_BOUNDS = (0.2, 60.0)
_BEATS_TO_SETTLE = 2


class ActualTable:
    """The instances and DEAs heard of so far."""

    def __init__(self, settings: Intervals) -> None:
        self.settings = settings
        self.apps: dict[int, AppActual] = {}
        self.deas: dict[str, Dea] = {}
        self.listening_since = NEVER
        self.settling_since = NEVER
        # The DEAs that were known when the settling began.
        self._awaited: frozenset[str] = frozenset()
        # How many beats each of them has sent since.
        self._beats: dict[str, int] = {}
        # STARTs in flight, by application, version and index, oldest first: the times of the requests.
        self._starting: dict[tuple[int, str, int], float] = {}
        self._gone: dict[str, tuple[float, bool]] = {}
        self._dirty: set[int] = set()

    # Events.

    def listen_from(self, now: float, *, settle: bool = True) -> None:
        """Begin to listen (again): earlier silence does not count.

        Args:
            now: the time.
            settle: False where nothing was missed, only read late.
        """
        self.listening_since = now
        if settle:
            known = frozenset(name for name, dea in self.deas.items() if dea.lost_at is None)
            # A connection lost again while it settles adds no DEA: those that came meanwhile were not all there are.
            self._awaited = known if self.settled(now) else self._awaited & known
            self._beats = dict.fromkeys(self._awaited, 0)
            self.settling_since = now

    def settled(self, now: float) -> bool:
        """Return whether the events missed before listening began have been made up for.

        That is so after `settle` seconds, and after half of them where every DEA that was there before has sent two beats: instances
        that ended unheard are found by the second.
        After a start of this process no DEA was known before, so the whole time passes.
        """
        heard = bool(self._awaited) and all(beats >= _BEATS_TO_SETTLE for beats in self._beats.values())
        return now - self.settling_since >= self.settings.settle / (2 if heard else 1)

    def heartbeat(self, message: Heartbeat, now: float) -> bool:
        """Record a `dea.heartbeat`, which names all instances of a DEA or one; return whether the DEA came back."""
        back = self._hear(message.dea, now) if message.dea else False
        home = self.deas.get(message.dea)
        # One string for all of them: it is kept with each instance.
        name = home.id if home else ""
        for entry in message.droplets:
            if home is not None and entry.state in LIVE:
                home.named[entry.droplet] = now
            app = self.apps.get(entry.droplet)
            instance = app.live.get(entry.instance) if app is not None else None
            if instance is not None and instance.state == entry.state and instance.dea == name:
                # Unchanged, as most entries are.
                instance.since, instance.seen = entry.state_timestamp, now
            else:
                self._entry(entry, name, now)
        return back

    def beat(self, message: DeaBeat, now: float) -> bool:
        """Record an `ingot.dea.beat`; return whether the DEA came back from being lost."""
        back = self._hear(message.id, now)
        if message.id in self._beats:
            self._beats[message.id] += 1
        dea = self.deas[message.id]
        dea.interval = min(max(message.interval, _BEAT_BOUNDS[0]), _BEAT_BOUNDS[1])
        if message.evacuating != dea.evacuating:
            self._dirty.update(dea.instances.values())
        leaving = frozenset(message.leaving)
        self._dirty.update(dea.instances[i] for i in leaving ^ dea.leaving if i in dea.instances)
        dea.leaving = leaving
        dea.evacuating, dea.stopping, dea.capacity = message.evacuating, message.stopping, message.capacity
        if dea.moved or message.droplets != dea.counts:
            dea.counts = message.droplets
            dea.moved = self._compare(dea, now)
        return back

    def exited(self, message: DropletExited, now: float) -> None:
        """Record a `droplet.exited`: an instance is gone, and its reason is that of the repairs that follow."""
        key = (message.version, message.index)
        app = self._app(message.droplet)
        crashed = message.reason == CRASHED
        if crashed:
            since = message.crash_timestamp or 0
            app.crashed[message.instance] = Crash(*key, since, now)
        if message.instance in self._gone:
            self._gone[message.instance] = (now, True)
            return
        instance = app.live.get(message.instance)
        if message.reason == _EVACUATION and instance is not None and instance.dea:
            # It runs on and serves until its successor does. Its DEA says so in its beats, if it sends any.
            self.deas[instance.dea].evacuating = True
            self._dirty.add(message.droplet)
            return
        index = app.index(*key)
        why = _REASONS.get(message.reason, STOPPED)
        if instance is not None:
            self._remove(message.droplet, instance, why, now, exited=True, since=message.crash_timestamp or 0)
        else:
            self._gone[message.instance] = (now, True)
            # An unknown instance is the one requested last: that request has been answered.
            if why != STOPPED and not any((i.version, i.index) == key for i in app.live.values()):
                index.requested, index.why = NEVER, why
                self._starting.pop((message.droplet, *key), None)
            if crashed:
                self._count(index, message.crash_timestamp or 0, now)
        self._dirty.add(message.droplet)

    # Conclusions.

    def silence(self, dea: Dea, now: float) -> float:
        """Return the seconds for which a DEA could have been heard and was not."""
        return now - max(dea.seen, self.listening_since)

    def lose(self, dea: Dea, now: float) -> int:
        """Mark a DEA as lost, and its instances with it; return their number."""
        dea.lost_at = now
        dea.counts, dea.named, dea.short = {}, {}, {}
        for droplet in dea.unnamed:
            self.apps[droplet].unnamed.pop(dea.id, None)
        dea.unnamed = set()
        return self.drop([(droplet, i) for i, droplet in dea.instances.items()], now)

    def drop(self, lost: Iterable[tuple[int, str]], now: float) -> int:
        """Mark instances, `(application, id)`, as gone without an exit of theirs; return how many were known."""
        number = 0
        for droplet, name in lost:
            app = self.apps.get(droplet)
            instance = app.live.get(name) if app else None
            if instance is not None:
                self._remove(droplet, instance, LOST, now, exited=False)
                number += 1
        return number

    def forget(self, dea: Dea) -> None:
        """Remove a lost DEA from the table."""
        del self.deas[dea.id]

    # Requests.

    def request_start(self, droplet: int, version: str, index: int, now: float) -> None:
        """Record that a START for this index is in flight."""
        memory = self._app(droplet).index(version, index)
        memory.requested, memory.tries = now, memory.tries + 1
        self._starting.pop((droplet, version, index), None)
        self._starting[droplet, version, index] = now

    def in_flight(self, now: float) -> int:
        """Return the number of STARTs that have been neither answered nor timed out."""
        while self._starting:
            key, requested = next(iter(self._starting.items()))
            if now - requested < self.settings.restart_timeout:
                break
            del self._starting[key]
        return len(self._starting)

    def request_stop(self, droplet: int, instances: Iterable[str], now: float) -> None:
        """Record that these instances have been asked to stop."""
        self._app(droplet).stop_requested.update(dict.fromkeys(instances, now))

    # Housekeeping.

    def take_dirty(self) -> set[int]:
        """Return the applications that have changed since the last call."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def mark(self, droplets: Iterable[int]) -> None:
        """Mark applications for another look."""
        self._dirty.update(droplets)

    def tidy(self, droplet: int, version: str | None, now: float) -> None:
        """Drop the outdated records of an application; `version` is its live one, None when it is unknown."""
        app = self.apps.get(droplet)
        if app is None:
            return
        s = self.settings
        if not (app.crashed or app.indices or app.stop_requested) and app.live:
            return
        for name in [n for n, c in app.crashed.items() if now - c.seen > s.crash_memory]:
            del app.crashed[name]
        for key, index in list(app.indices.items()):
            if now - index.requested <= s.restart_timeout:
                continue
            quiet = now - index.crashed_at > s.flapping_timeout and not index.gave_up(s)
            if key[0] != version or (quiet and not index.why and not index.tries):
                del app.indices[key]
        for name in [n for n in app.stop_requested if n not in app.live]:
            del app.stop_requested[name]
        if app.empty():
            del self.apps[droplet]

    def prune(self, now: float) -> None:
        """Drop instances that went long ago."""
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
        instance = app.live.get(entry.instance)
        if entry.state not in LIVE:
            if entry.state == CRASHED:
                app.crashed[entry.instance] = Crash(entry.version, entry.index, entry.state_timestamp, now)
            if instance is not None:
                why = CRASH if entry.state == CRASHED else STOPPED
                self._remove(entry.droplet, instance, why, now, exited=True, since=entry.state_timestamp)
            return
        if instance is None:
            if self._gone.get(entry.instance, (now, False))[1]:
                return  # it has exited; this was written before
            instance = app.live[entry.instance] = Instance(
                entry.instance,
                # One string for all instances of a version, and for all that run.
                sys.intern(entry.version),
                entry.index,
                sys.intern(entry.state),
                entry.state_timestamp,
                "",
                now,
                now,
            )
            index = app.indices.get((entry.version, entry.index))
            returned = self._gone.pop(entry.instance, None) is not None
            if index is not None:
                index.why, index.tries = "", 0
                # A lost instance that is back is not the requested one, which may still come.
                if not returned:
                    index.requested = NEVER
                    self._starting.pop((entry.droplet, entry.version, entry.index), None)
            self._dirty.add(entry.droplet)
        elif instance.state != entry.state:
            self._dirty.add(entry.droplet)
        instance.state, instance.since, instance.seen = sys.intern(entry.state), entry.state_timestamp, now
        if instance.dea != dea:
            self._place(entry.droplet, instance, dea)

    def _place(self, droplet: int, instance: Instance, dea: str) -> None:
        self._displace(instance)
        instance.dea = dea
        if dea:
            home = self.deas[dea]
            home.instances[instance.id] = droplet
            home.moved = True

    def _displace(self, instance: Instance) -> None:
        home = self.deas.get(instance.dea)
        if home is not None:
            home.moved = True
            home.instances.pop(instance.id, None)

    def _remove(
        self, droplet: int, instance: Instance, why: str, now: float, *, exited: bool, since: int = 0
    ) -> None:
        app = self.apps[droplet]
        del app.live[instance.id]
        app.stop_requested.pop(instance.id, None)
        self._displace(instance)
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
        """Compare a DEA's counts with the known instances; return whether they still differ."""
        numbers = ((whole_number(d), n) for d, n in dea.counts.items())
        counts = {d: n for d, n in numbers if d is not None}
        unnamed: set[int] = set()
        short: dict[int, int] = {}
        names_of: dict[int, list[str]] = {}
        for name, droplet in dea.instances.items():
            names_of.setdefault(droplet, []).append(name)
        dea.named = {droplet: at for droplet, at in dea.named.items() if droplet in names_of}
        for droplet in counts.keys() | names_of.keys():
            counted, names = counts.get(droplet, 0), names_of.get(droplet, ())
            if counted > len(names):
                unnamed.add(droplet)
                app = self._app(droplet)
                app.unnamed[dea.id] = (counted - len(names), app.unnamed.get(dea.id, (0, now))[1])
            elif counted < len(names):
                # Twice in a row, because a beat may have been written just before an instance came.
                short[droplet] = dea.short.get(droplet, 0) + 1
                live, named_at = self.apps[droplet].live, dea.named.get(droplet, NEVER)
                silent = [i for i in names if not counted or live[i].seen != named_at]
                if short[droplet] > 1 and len(names) - len(silent) == counted:
                    del short[droplet]
                    self.drop([(droplet, i) for i in silent], now)
        for droplet in dea.unnamed - unnamed:
            self.apps[droplet].unnamed.pop(dea.id, None)
            self._dirty.add(droplet)
        dea.unnamed, dea.short = unnamed, short
        return bool(unnamed or short)
