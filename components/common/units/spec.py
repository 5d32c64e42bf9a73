"""A unit's description, its state, and the interface of a runner of units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from components.common import variables
from components.common.errors import IngotError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")


class UnitError(IngotError):
    """A unit could not be started, stopped or asked about; the text has the reason, and never the values of variables."""


class UnitState(StrEnum):
    """The state of a unit in its life."""

    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class UnitSpec:
    """One program to run.

    Attributes:
        name: unique on the machine, without a `.service` suffix.
        argv: absolute program and its arguments; nothing in it is expanded.
        uid: number to run as, of which the machine has an account (`accounts.problems`); None keeps the daemon's own.
        gid: as `uid`; None takes the uid's number.
        directory: where it starts; also writable.
        environment: the whole environment, but for what systemd adds; kept out of process lists, logs and D-Bus.
        memory_mb: hard limit, where the kernel can.
        tasks: processes and threads.
        nofile: open files.
        file_mb: length of one file.
        cpu_weight: share among siblings, 1 to 10000.
        writable: folders it may write to.
        read_only: folders it may see below one of `empty`.
        hidden: paths it cannot enter.
        empty: folders that look empty to it, but for what is named in `writable` and `read_only`.
        temporary: folder of its own that it sees as /tmp and /var/tmp; None gives it private ones.
        stdout: file appended to; None discards.
        stderr: as `stdout`.
        slice: systemd slice.
        timeout_seconds: ended after so long, with result `timeout`; 0 is for ever.
        capabilities: that a program of ours keeps, such as `CAP_SYS_ADMIN`; it sees the machine's devices then. A guest has none.
        system_calls: that it may make beyond those of a service.
        again: may be started again, as `systemctl restart` does; False for a program that must run at most once.
    """

    name: str
    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    uid: int | None = None
    gid: int | None = None
    memory_mb: int | None = None
    tasks: int | None = None
    nofile: int | None = None
    file_mb: int | None = None
    cpu_weight: int | None = None
    writable: Sequence[Path] = ()
    read_only: Sequence[Path] = ()
    hidden: Sequence[Path] = ()
    empty: Sequence[Path] = ()
    temporary: Path | None = None
    stdout: Path | None = None
    stderr: Path | None = None
    slice: str = "ingot-apps.slice"
    timeout_seconds: float = 0
    capabilities: Sequence[str] = ()
    system_calls: Sequence[str] = ()
    again: bool = False

    def check(self) -> None:
        """Refuse a description that no runner can carry out.

        Raises:
            UnitError: naming the field.
        """
        if not _NAME.fullmatch(self.name):
            raise UnitError(f"{self.name!r} is not a unit name")
        if not self.argv or not Path(self.argv[0]).is_absolute():
            raise UnitError(f"{self.name}: argv must begin with an absolute path")
        if self.uid is not None and (self.capabilities or self.system_calls):
            raise UnitError(
                f"{self.name}: a unit with a uid keeps no capabilities and makes no further system calls"
            )
        for key, value in self.environment.items():
            if not variables.NAME.fullmatch(key):
                raise UnitError(f"{self.name}: {key!r} is not a variable name")
            if variables.UNDELIVERABLE.search(value):
                raise UnitError(f"{self.name}: the value of {key} holds a character that is none of a text")


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """The status of a unit.

    Attributes:
        state: `missing` means that nothing is known of it.
        pid: of the main process while it runs.
        exit_code: when it ended by itself.
        signal: the number of the signal that ended it.
        result: `success`, `exit-code`, `signal`, `core-dump`, `oom-kill`, `timeout`, or `unknown` when it ended unseen.
        user: the user that the unit was told to run as, as text; empty where it was told none.
    """

    state: UnitState
    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    result: str = ""
    user: str = ""

    @property
    def alive(self) -> bool:
        """Return whether its processes are there."""
        return self.state in (UnitState.RUNNING, UnitState.STOPPING)

    def describe(self) -> str:
        """Return in words why it ended."""
        if self.result in ("oom-kill", "timeout"):
            return {"oom-kill": "killed by the kernel for want of memory", "timeout": "ran too long"}[
                self.result
            ]
        if self.signal is not None:
            return f"killed by signal {self.signal}"
        if self.exit_code is not None:
            return f"exited with status {self.exit_code}"
        return "ended unseen"


MISSING = UnitStatus(UnitState.MISSING)


class Runner(Protocol):
    """A runner of units that outlive the daemon; it finds them again after the daemon restarted."""

    async def start(self, spec: UnitSpec) -> None:
        """Start a unit; return when its program has been executed.

        Raises:
            UnitError: it could not be started, or one of that name exists.
        """

    async def stop(self, name: str, grace_seconds: float = 5.0) -> None:
        """End a unit: SIGTERM to all of it, SIGKILL after the grace, then forget it. A missing unit is no error.

        Raises:
            UnitError: the service manager cannot be reached or refuses.
        """

    async def kill(self, name: str) -> None:
        """Send SIGKILL to all of a unit; its status can still be read afterwards."""

    async def status(self, name: str) -> UnitStatus:
        """Return the status of a unit; an ended one is remembered until `stop`, also while the daemon was away."""

    async def names(self, prefix: str) -> list[str]:
        """Return the names of units, including ended ones that are remembered."""

    async def wait(self, name: str) -> UnitStatus:
        """Wait until a unit has ended, through losses of the service manager's connection."""

    async def close(self) -> None:
        """Close connections and watchers; the units go on."""
