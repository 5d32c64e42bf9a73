"""The replacement of instances whose unit was made by an earlier release, one after the other; pure.

The DEA's beat names one at a time (`leaving`). The health manager has a successor started, and the old one stopped when the
successor runs, exactly as for an instance on a DEA that evacuates. It is named until it is gone: the health manager takes a
successor of an unnamed instance for a duplicate, and stops it. One without a successor after the longest allowed start,
because there is no room for it or it does not start, gives way to the next.
"""

from __future__ import annotations

from collections.abc import Collection

from components.common.units import UnitStatus
from components.dea.instances.instance import Instance

# A start may take as long as the longest timeout of a health check, 600 s, after the request and the transfer of the
# droplet.
_PATIENCE_SECONDS = 900.0


def outdated(instance: Instance, status: UnitStatus) -> bool:
    """Return whether the unit of a recovered instance runs under no account, as units of earlier releases do."""
    return instance.uid is not None and status.alive and status.user != str(instance.uid)


class Renewal:
    """The instances that are to be replaced, the longest known first.

    Args:
        patience: seconds for which one is named before another is.
    """

    def __init__(self, patience: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._old: list[str] = []
        self._named: tuple[str, float] | None = None

    def add(self, instance: str) -> None:
        """Add an instance."""
        self._old.append(instance)

    def left(self, live: Collection[str]) -> int:
        """Return how many of them are still alive.

        Args:
            live: ids of the instances that start or run.
        """
        return sum(1 for name in self._old if name in live)

    def turn(self, live: Collection[str], now: float) -> list[str]:
        """Return the instance whose turn it is, or an empty list.

        Args:
            live: ids of the instances that start or run; others are forgotten.
            now: the time, monotonic.
        """
        self._old = [name for name in self._old if name in live]
        if (
            self._named is not None
            and now - self._named[1] >= self._patience
            and self._old[:1] == [self._named[0]]
        ):
            self._old.append(self._old.pop(0))
            self._named = None
        if not self._old:
            return []
        if self._named is None or self._named[0] != self._old[0]:
            self._named = (self._old[0], now)
        return [self._old[0]]
