"""The usage of instances, and its excess over limits; pure."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from components.common.bus.messages import Limits
from components.dea.limits import exit_reason
from components.dea.limits.procfs import Process

_TICKS = os.sysconf("SC_CLK_TCK")
_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """A sample (protocol 4.7): percent of a core, KB, bytes; the next percentage is computed from `ticks` and `clock`.

    `time` is shown, and may be set; `clock` only grows.
    """

    time: float
    cpu: float
    mem: float
    disk: int
    ticks: int = 0
    clock: float = 0.0


def sample(own: Iterable[Process], disk: int, now: float, clock: float, before: Usage | None) -> Usage:
    """Return an instance's usage from its processes and its previous sample; `now` is since 1970, `clock` only grows."""
    own = list(own)
    ticks = sum(p.ticks for p in own)
    cpu = 0.0
    if before is not None and clock > before.clock:
        # The time of a process that ended is gone with it; a percentage is never negative.
        cpu = max(0.0, 100 * (ticks - before.ticks) / _TICKS / (clock - before.clock))
    return Usage(now, round(cpu, 1), float(sum(p.rss_kb for p in own)), disk, ticks, clock)


def excess(memory_kb: float, disk: int, limits: Limits) -> str | None:
    """Return in words the limit that an instance exceeds; None when there is none."""
    if memory_kb > limits.mem * 1024:
        return f"memory over {limits.mem} MB ({memory_kb / 1024:.0f} MB)"
    if disk > limits.disk * _MB:
        return f"disk over {limits.disk} MB ({disk / _MB:.0f} MB)"
    return None


def overcrowded(threads: int, refused: int, limit: int) -> str | None:
    """Return in words that an instance stands at its limit of tasks; one that met it and left it again may go on.

    Args:
        threads: their present number.
        refused: how often its control group refused one since the last look.
        limit: largest number of tasks.
    """
    full = threads >= limit or (refused > 0 and threads >= limit * 9 // 10)
    return exit_reason.too_many(limit) if full else None
