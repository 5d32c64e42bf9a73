"""The decision whether the known state may be acted upon. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.health_manager.actual import ActualTable
from components.health_manager.config import Intervals
from components.health_manager.desired import DesiredTable
from components.health_manager.state import NEVER, Dea

BUS_LOST, SETTLING, NO_DESIRED, STALE, SILENT, UNKNOWN = (
    "bus_lost",
    "settling",
    "desired_missing",
    "desired_stale",
    "pool_silent",
    "many_unknown",
)
# DEAs lost within so many seconds of each other are one event.
_TOGETHER = 30.0
# Half the silence of a lost DEA: used for the question whether many fell silent at once.
_SUSPECT = 0.6
# Fewer applications than this may all be deleted at once.
_MANY_UNKNOWN = 5


@dataclass(slots=True)
class Silence:
    """DEAs not heard for too long: `lost` count as lost now, `held` are as silent, but too many at once."""

    lost: list[Dea] = field(default_factory=list)
    held: list[Dea] = field(default_factory=list)


class PoolWatch:
    """The distinction between lost DEAs and a lost bus: too many silent at once are held back for a while, then lost."""

    def __init__(self, settings: Intervals) -> None:
        self._settings = settings
        self._held_since = self._held_at = NEVER

    def look(self, table: ActualTable, now: float) -> Silence:
        """Return the DEAs that have been silent for too long."""
        s = self._settings
        silent: list[Dea] = []
        gone: list[Dea] = []
        pool = suspects = 0
        for dea in table.deas.values():
            if dea.lost_at is not None and now - dea.lost_at > _TOGETHER:
                continue
            if not dea.instances and (dea.evacuating or dea.stopping):
                # It announced its end, and had no instances left.
                if dea.lost_at is None and table.silence(dea, now) > dea.limit(s):
                    gone.append(dea)
                continue
            pool += 1
            quiet, limit = table.silence(dea, now), dea.limit(s)
            if dea.lost_at is not None or quiet > _SUSPECT * limit:
                suspects += 1
            if dea.lost_at is None and quiet > limit:
                silent.append(dea)
        if suspects >= 2 and suspects > s.silent_share * pool and silent:
            if self._held_since == NEVER:
                self._held_since = now
            self._held_at = now
            if now - self._held_since < s.silent_hold:
                return Silence(lost=gone, held=silent)
            return Silence(lost=gone + silent)
        self._held_since = NEVER
        # When a hold ends, DEAs come back one after the other: each has its whole time again to be heard.
        held = [dea for dea in silent if now - self._held_at <= dea.limit(s)]
        return Silence(lost=gone + [dea for dea in silent if dea not in held], held=held)


def many_unknown(desired: DesiredTable, table: ActualTable, settings: Intervals) -> bool:
    """Return whether so many running instances are unknown to the desired state that it must be wrong."""
    running = [d for d, app in table.apps.items() if app.live]
    unknown = sum(1 for d in running if d not in desired.apps)
    return unknown >= _MANY_UNKNOWN and unknown > settings.silent_share * len(running)


def doubts(
    *, desired: DesiredTable, table: ActualTable, connected: bool, held: int, now: float, settings: Intervals
) -> list[str]:
    """Return the reasons not to act; empty when the state can be trusted."""
    reasons = []
    if not connected:
        reasons.append(BUS_LOST)
    elif not table.settled(now):
        reasons.append(SETTLING)
    if not desired.loaded:
        reasons.append(NO_DESIRED)
    elif desired.age(now) > settings.desired_max_age:
        reasons.append(STALE)
    if held:
        reasons.append(SILENT)
    return reasons
