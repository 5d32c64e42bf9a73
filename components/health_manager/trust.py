"""Whether the picture may be acted upon. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.health_manager.actual import NEVER, ActualTable, Dea
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredTable

BUS_LOST, SETTLING, NO_DESIRED, STALE, SILENT = (
    "bus_lost",
    "settling",
    "desired_missing",
    "desired_stale",
    "pool_silent",
)
# DEAs lost within so many seconds of each other are one event.
_TOGETHER = 30.0
# Half way to being lost: counted where the question is whether many went at once.
_SUSPECT = 0.6


@dataclass(slots=True)
class Silence:
    """DEAs not heard for too long: `lost` are to be given up now, `held` are as silent, but too many at once."""

    lost: list[Dea] = field(default_factory=list)
    held: list[Dea] = field(default_factory=list)


class PoolWatch:
    """Tells a lost DEA from a lost bus: too many silent at once are held back for a while, and then believed."""

    def __init__(self, settings: Intervals) -> None:
        self._settings = settings
        self._held_since = NEVER

    def look(self, table: ActualTable, now: float) -> Silence:
        """Sort the DEAs that have been silent for too long."""
        s = self._settings
        silent: list[Dea] = []
        gone: list[Dea] = []
        pool = suspects = 0
        for dea in table.deas.values():
            if dea.lost_at is not None and now - dea.lost_at > _TOGETHER:
                continue
            if not dea.instances and (dea.evacuating or dea.stopping):
                # It said it would go, and had nothing left.
                if dea.lost_at is None and table.silence(dea, now) > dea.limit(s):
                    gone.append(dea)
                continue
            pool += 1
            quiet, limit = table.silence(dea, now), dea.limit(s)
            if dea.lost_at is not None or quiet > _SUSPECT * limit:
                suspects += 1
            if dea.lost_at is None and quiet > limit:
                silent.append(dea)
        if not silent or suspects < 2 or suspects <= s.silent_share * pool:
            self._held_since = NEVER
            return Silence(lost=gone + silent)
        if self._held_since == NEVER:
            self._held_since = now
        if now - self._held_since >= s.silent_hold:
            return Silence(lost=gone + silent)
        return Silence(lost=gone, held=silent)


def doubts(
    *, desired: DesiredTable, table: ActualTable, connected: bool, held: int, now: float, settings: Intervals
) -> list[str]:
    """Give the reasons not to act; empty when the picture can be trusted."""
    found = []
    if not connected:
        found.append(BUS_LOST)
    elif now - table.listening_since < settings.settle:
        found.append(SETTLING)
    if not desired.loaded:
        found.append(NO_DESIRED)
    elif desired.age(now) > settings.desired_max_age:
        found.append(STALE)
    if held:
        found.append(SILENT)
    return found
