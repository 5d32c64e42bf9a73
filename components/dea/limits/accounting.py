"""The usage of instances since the last sample, for `ingot.dea.usage`; pure."""

from __future__ import annotations

import os
from dataclasses import dataclass

from components.common.bus.operation_messages import UsageSample
from components.dea.instances.instance import Instance
from components.dea.limits.usage import Usage

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class _Row:
    droplet: int
    reserved: int
    looks: int = 0
    memory_kb: float = 0
    ticks: int = 0
    crashed: bool = False


class UsageAccounting:
    """A sum of the enforcer's samples, until it is sent."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def note(self, instance: Instance, now: Usage, before: Usage | None) -> None:
        """Add one look at an instance or a task."""
        row = self._row(instance)
        row.looks += 1
        row.memory_kb += now.mem
        # The first look only sets the beginning: a new agent counts no time twice.
        row.ticks += max(0, now.ticks - before.ticks) if before is not None else 0

    def crashed(self, instance: Instance) -> None:
        """Record a crash: the instance is started again, on this DEA or another."""
        self._row(instance).crashed = True

    def samples(self) -> list[UsageSample]:
        """Return the sums."""
        return [
            UsageSample(
                droplet=row.droplet,
                instance=name,
                reserved=row.reserved,
                used=round(row.memory_kb / row.looks / 1024, 2) if row.looks else 0.0,
                cpu=round(row.ticks / _TICKS, 2),
                restarted=row.crashed,
            )
            for name, row in self._rows.items()
        ]

    def reset(self) -> None:
        """Begin anew, after the sample was sent."""
        self._rows.clear()

    def _row(self, instance: Instance) -> _Row:
        return self._rows.setdefault(instance.id, _Row(instance.droplet, instance.limits.mem))
