"""Why an instance or a task ended, in words that its owner can act on; pure."""

from __future__ import annotations

import signal

from components.common.messages import Limits
from components.common.units import UnitStatus

# What a shell reports of a child that a signal ended.
_BY_SIGNAL = 128


def ending(status: UnitStatus, limits: Limits, file_mb: int, crowded: int | None) -> str:
    """Say why a unit ended.

    Args:
        status: how it ended.
        limits: it had.
        file_mb: how long one of its files could be, MB.
        crowded: its limit of tasks, if it ever met it; None where it did not.
    """
    if status.result == "oom-kill":
        return f"memory over {limits.mem} MB (killed by its control group)"
    if signal.SIGXFSZ in (status.signal, (status.exit_code or 0) - _BY_SIGNAL):
        return f"a file over {file_mb} MB"
    said = status.describe()
    return said if crowded is None else f"{too_many(crowded)}: {said}"


def too_many(tasks: int) -> str:
    """Say that the limit of processes and threads was met."""
    return f"too many tasks ({tasks})"
