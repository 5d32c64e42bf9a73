"""The DEA's configuration."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import msgspec

from components.common.config import DaemonConfig
from components.common.frameworks import RUNTIMES
from components.common.units import accounts

_MB = 1024 * 1024
# The part that is left to the system when the machine's memory is handed out.
_KEPT_MB = 512


class Intervals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds between two runs of periodic work."""

    beat: float = 1.0
    heartbeat: float = 5.0
    advertise: float = 5.0
    register: float = 20.0
    monitor: float = 2.0
    reaper: float = 30.0
    lines: float = 0.5
    usage: float = 60.0

    def problems(self) -> list[str]:
        """Return a problem for each value that is not positive."""
        return [
            f"{name}: want more than 0 seconds" for name in self.__struct_fields__ if getattr(self, name) <= 0
        ]


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers from `first` to `last`, both included."""

    first: int
    last: int

    def problems(self) -> list[str]:
        """Return a problem for numbers out of order."""
        ordered = 0 < self.first <= self.last
        return [] if ordered else [f"first: want 1 to last ({self.last}), not {self.first}"]


class FilesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address of the server of instances' files and logs (protocol 4.9). Port 0 takes any."""

    host: str = "0.0.0.0"  # noqa: S104 - controllers ask it; the firewall narrows who
    port: int = 12345


class LogsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The bounds of an instance's log: the newest lines, KB of them, and MB of each of its log files."""

    lines: int = 2000
    kb: int = 512
    file_mb: int = 8

    def problems(self) -> list[str]:
        """Return a problem for each value that is not positive."""
        return [f"{name}: want more than 0" for name in self.__struct_fields__ if getattr(self, name) <= 0]


class RuntimeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An interpreter (protocol 4.2): the output of `executable version_flag` must match `version`."""

    executable: str
    version: str = ""
    version_flag: str = "--version"
    aliases: list[str] = msgspec.field(default_factory=list)
    environment: dict[str, str] = msgspec.field(default_factory=dict)


def default_runtimes() -> dict[str, RuntimeConfig]:
    """Return the platform's runtimes."""
    return {
        r.name: RuntimeConfig(
            r.executable, r.version_pattern, r.version_flag, list(r.aliases), dict(r.environment)
        )
        for r in RUNTIMES
    }


class DeaConfig(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The DEA's configuration; memory, disk and cache are MB, 0 takes all that the machine has."""

    base_dir: str = "/var/lib/ingot/dea"
    run_dir: str = "/run/ingot-dea"
    share_path: str = "/srv/ingot/share"
    # `systemd`: a unit and a uid for each instance, as root; `process`: plain processes, for development.
    sandbox: str = "systemd"
    zone: str = "default"
    max_memory: int = 0
    max_disk: int = 0
    max_instances: int = 1024
    cache_mb: int = 4096
    intervals: Intervals = Intervals()
    ports: Range = Range(61001, 64999)
    # Longer than two prune thresholds of the routers; they may announce more.
    port_rest: float = 240
    # Twice as many as instances, because a crashed one holds its uid a little longer; the role makes an account for
    # each.
    uids: Range = Range(50000, 52047)
    tasks: int = 512
    start_timeout: float = 60
    state_file_timeout: float = 300
    # Between leaving the routes and SIGTERM, and between SIGTERM and SIGKILL.
    drain: float = 0.5
    stop_grace: float = 5
    crash_keep: float = 3600
    # How long a task's log can be read here after its end.
    task_keep: float = 60
    # One file of an instance, MB (protocol 4.4); its whole disk is in its limits.
    file_mb: int = 1024
    # Files and folders of an instance: each takes an inode, of which ext4 has one for 16 KB of the disk.
    most_files: int = 250_000
    # How an instance is held to its disk. `auto`: by the kernel, where the file system keeps quotas of users,
    # elsewhere by the enforcer of limits; `required`: by the kernel, or the agent does not start; `watched`: by the
    # enforcer.
    disk_quota: Literal["auto", "required", "watched"] = "auto"
    # The percentage of the file system's bytes or inodes beyond which no instance is taken (protocol 4.1).
    disk_full: float = 95
    logs: LogsConfig = LogsConfig()
    files: FilesConfig = FilesConfig()
    runtimes: dict[str, RuntimeConfig] = msgspec.field(default_factory=default_runtimes)
    # The search path of applications' programs.
    path: str = "/usr/local/bin:/usr/bin:/bin"
    # The folders that instances must not enter, beside those of their neighbours.
    hidden: list[str] = msgspec.field(default_factory=lambda: ["/etc/ingot", "/srv/ingot", "/root"])

    def lacking(self) -> list[str]:
        """Return the accounts that the machine lacks for instances and tasks."""
        if self.sandbox != "systemd":
            return []
        return accounts.problems(
            "uids", range(self.uids.first, self.uids.last + 1), role="dea", prefix="ingot-app-"
        )

    def problems(self) -> list[str]:
        """Return problems between several keys."""
        found = []
        if self.sandbox not in {"systemd", "process"}:
            found.append(f"sandbox: want systemd or process, not {self.sandbox!r}")
        found += [
            f"{name}: want an absolute path, not {getattr(self, name)!r}"
            for name in ("base_dir", "run_dir", "share_path")
            if not Path(getattr(self, name)).is_absolute()
        ]
        if self.most_files < 1000:
            found.append(
                f"most_files: want at least 1000, which an interpreter's own packages take, not {self.most_files}"
            )
        if self.ports.last > 65535:
            found.append("ports.last: want at most 65535")
        found += [
            f"{name}: must not be negative"
            for name in (
                "max_memory",
                "max_disk",
                "port_rest",
                "drain",
                "stop_grace",
                "crash_keep",
                "task_keep",
            )
            if getattr(self, name) < 0
        ]
        found += [
            f"runtimes.{name}.executable: want an absolute path, not {runtime.executable!r}"
            for name, runtime in self.runtimes.items()
            if not runtime.executable.startswith("/")
        ]
        return found

    @property
    def memory_mb(self) -> int:
        """Return the MB of memory for instances."""
        if self.max_memory:
            return self.max_memory
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MB
        return max(whole - _KEPT_MB, whole // 2)

    @property
    def disk_mb(self) -> int:
        """Return the MB of disk for instances: nine tenths of the file system, unless configured."""
        return self.max_disk or shutil.disk_usage(self.base_dir).total * 9 // 10 // _MB
