"""The state of instances, indices, applications and DEAs; `actual.ActualTable` keeps it.

Times are monotonic seconds, except those named `since`, which are the wire's (whole seconds since 1970).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from components.common import states
from components.common.bus.messages import Capacity
from components.common.states import InstanceState
from components.health_manager.config import Intervals

NEVER = float("-inf")
LIVE = frozenset(states.LIVE)
RUNNING, CRASHED = InstanceState.RUNNING, InstanceState.CRASHED
# The reason why an index is empty: the end of its instance.
LOST, EXITED, STOPPED = "lost", "dea_exit", "stopped"
CRASH = "crashed"


@dataclass(slots=True)
class Instance:
    """One starting or running instance."""

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
    """The record of one index of one version: the START in flight, its crashes, the reason why it is empty."""

    requested: float = NEVER
    # Requests since an instance was last there.
    tries: int = 0
    crashes: int = 0
    crashed_at: float = NEVER
    crashed_since: int = 0
    why: str = ""

    def gave_up(self, s: Intervals) -> bool:
        """Return whether it has crashed so often that it is not started again before its owner changes it."""
        return 0 <= s.giveup_crash_number < self.crashes and self.crashes > s.flapping_death

    def flapping(self, now: float, s: Intervals) -> bool:
        """Return whether it has crashed too often too recently."""
        recent = now - self.crashed_at <= s.flapping_timeout
        return self.crashes > s.flapping_death and (recent or self.gave_up(s))


@dataclass(slots=True)
class AppActual:
    """The known state of one application's instances."""

    live: dict[str, Instance] = field(default_factory=dict)
    crashed: dict[str, Crash] = field(default_factory=dict)
    indices: dict[tuple[str, int], Index] = field(default_factory=dict)
    # DEA -> (instances it counts in its beats and has not named yet, since when).
    unnamed: dict[str, tuple[int, float]] = field(default_factory=dict)
    stop_requested: dict[str, float] = field(default_factory=dict)
    # The time since which the desired state has not known this application.
    unknown_since: float | None = None

    def index(self, version: str, number: int) -> Index:
        """Return the record of an index, made if needed."""
        return self.indices.setdefault((version, number), Index())

    def empty(self) -> bool:
        """Return whether there is nothing left to remember."""
        return not (self.live or self.crashed or self.indices or self.unnamed)


@dataclass(slots=True)
class Dea:
    """One DEA. `interval` is None for one that sends no `ingot.dea.beat`."""

    id: str
    seen: float
    interval: float | None = None
    evacuating: bool = False
    stopping: bool = False
    lost_at: float | None = None
    capacity: Capacity | None = None
    # Those of its instances that ask for a successor while it stays itself.
    leaving: frozenset[str] = frozenset()
    # Its instances, with the application of each.
    instances: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    # Application -> time of the last heartbeat with live instances of it; these were `seen` then.
    named: dict[int, float] = field(default_factory=dict)
    # Application -> number of consecutive beats that counted fewer instances than are known.
    short: dict[int, int] = field(default_factory=dict)
    unnamed: set[int] = field(default_factory=set)
    moved: bool = False

    def limit(self, s: Intervals) -> float:
        """Return the silence after which it is lost, in seconds."""
        if self.interval is None:
            return s.droplet_lost
        limit = s.beats_missed * self.interval
        return max(limit, s.stopping_grace) if self.stopping else limit
