"""Units: programs that run apart from the daemon that starts them, each with its own uid, limits and view of the disk."""

from components.common.units.process import ProcessRunner
from components.common.units.spec import Runner, UnitError, UnitSpec, UnitState, UnitStatus
from components.common.units.systemd import SystemdRunner

__all__ = [
    "ProcessRunner",
    "Runner",
    "SystemdRunner",
    "UnitError",
    "UnitSpec",
    "UnitState",
    "UnitStatus",
]
