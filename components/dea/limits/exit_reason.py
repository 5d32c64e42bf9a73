"""The reason of an instance's or a task's end, in words that its owner can act on; pure."""

from __future__ import annotations

import signal

from components.common.bus.messages import Limits
from components.common.units import UnitStatus

# The status with which a shell reports that a signal ended a child.
_BY_SIGNAL = 128


def describe(status: UnitStatus, limits: Limits, file_mb: int, crowded: int | None) -> str:
    """Return the reason of a unit's end.

    Args:
        status: its end.
        limits: its limits.
        file_mb: the largest size of one of its files, MB.
        crowded: its limit of tasks, if it ever met it; None where it did not.
    """
    if status.result == "oom-kill":
        return f"memory over {limits.mem} MB (killed by its control group)"
    if signal.SIGXFSZ in (status.signal, (status.exit_code or 0) - _BY_SIGNAL):
        return f"a file over {file_mb} MB"
    said = status.describe()
    return said if crowded is None else f"{too_many(crowded)}: {said}"


def too_many(tasks: int) -> str:
    """Return in words that the limit of processes and threads was met."""
    return f"too many tasks ({tasks})"
