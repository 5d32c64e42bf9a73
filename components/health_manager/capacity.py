"""The room that is left in the pool, from the DEAs' last reports. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from components.health_manager.config import Intervals
from components.health_manager.desired import STARTED, DesiredApp
from components.health_manager.state import Dea

# The subjects of the alert.
POOL, LARGEST = "pool", "largest_app"
# A reported shortage is over when so much more is free than needed: an alert must not come and go with every start.
_RELIEF = 1.1


@dataclass(frozen=True, slots=True)
class PoolRoom:
    """The room for instances, in MB of memory.

    The room of all DEAs that take instances, the largest free part of one of them, and the largest started application's need.
    """

    memory: int = 0
    free: int = 0
    most_free: int = 0
    largest: int = 0
    largest_name: str = ""

    def low(self, subject: str, s: Intervals, *, already: bool) -> bool:
        """Return whether there is too little room.

        Args:
            subject: `POOL`, a share of the pool's memory; `LARGEST`, one more instance of the largest application on one DEA.
            s: the share.
            already: whether this has been reported.
        """
        margin = _RELIEF if already else 1.0
        if subject == POOL:
            return self.free < s.capacity_share * self.memory * margin
        return self.most_free < self.largest * (margin if self.largest else 1.0)


def room(deas: Iterable[Dea], apps: Iterable[DesiredApp]) -> PoolRoom | None:
    """Return the room of the pool; None where no DEA reports its memory."""
    memory = free = most = 0
    known = False
    for dea in deas:
        if dea.capacity is None or dea.lost_at is not None:
            continue
        known = True
        if dea.evacuating or dea.stopping:
            continue
        own = max(dea.capacity.memory - dea.capacity.memory_reserved, 0)
        memory += dea.capacity.memory
        free += own
        if dea.capacity.instances < dea.capacity.max_instances:
            most = max(most, own)
    if not known:
        return None
    largest, name = 0, ""
    for app in apps:
        if app.memory > largest and app.state == STARTED and app.instances > 0:
            largest, name = app.memory, app.name
    return PoolRoom(memory, free, most, largest, name)
