"""The stager's configuration."""

from __future__ import annotations

from pathlib import Path

import msgspec

from components.common.config import DaemonConfig
from components.common.units import accounts

_HIDDEN = ("/etc/ingot", "/srv/ingot", "/var/lib/ingot/dea", "/var/lib/ingot/orchestrator")
_COUNTS = (
    "max_tasks",
    "max_seconds",
    "stop_seconds",
    "reply_seconds",
    "transfer_seconds",
    "memory_mb",
    "processes",
    "max_package_mb",
    "max_unpacked_mb",
    "max_files",
    "max_droplet_mb",
    "disk_mb",
    "most_files",
)


class StagerConfig(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`/etc/ingot/stager.yml`.

    Attributes:
        work_dir: holds tasks while they run and the caches of package managers.
        max_tasks: builds at a time; up to `max_waiting` more wait their turn.
        max_seconds: longest build; it is ended then.
        stop_seconds: how long a stager that is to end waits for its builds.
        reply_seconds: how long an answer waits for a bus that is away.
        transfer_seconds: longest download or upload.
        memory_mb: of one build.
        processes: of one build.
        disk_mb: of one build and its application's package cache.
        most_files: files and folders of one build and its application's package cache; every one takes an inode of the disk.
        sandbox: `systemd` (a transient unit for each build, root needed) or `process` (no isolation: development).
        first_uid: builds run as this uid and the following, one each.
        hidden_paths: hidden from every build, beside the other builds.
        python: the interpreter whose pip installs; the same version as the DEAs' `python3`.
        npm: the program.
        pip_index_url: this platform's index of Python packages; empty for pip's own settings.
        pip_extra_args: further arguments of `pip install`.
        npm_registry: this platform's npm registry; empty for npm's own settings.
        ruby: the interpreter whose Bundler installs; the same version as the DEAs'.
        gem_index_url: this platform's index of gems; empty where there is none.
        java: the program.
        tomcat: the folder of Tomcat's jars.
        environment_file: `NAME=value` lines, read for each task; proxy, authorities, pip's and npm's settings count.
        keep_caches: number of applications whose package cache is kept.
        min_free_mb: builds are ended while the work folder's disk has less.
    """

    work_dir: str = "/var/lib/ingot/stager"
    max_tasks: int = 4
    max_waiting: int = 50
    max_seconds: int = 120
    stop_seconds: int = 150
    reply_seconds: int = 60
    transfer_seconds: int = 120
    memory_mb: int = 1024
    processes: int = 512
    disk_mb: int = 4096
    most_files: int = 400_000
    sandbox: str = "systemd"
    first_uid: int = 49000
    hidden_paths: list[str] = msgspec.field(default_factory=lambda: list(_HIDDEN))
    python: str = "/usr/bin/python3"
    npm: str = "/usr/bin/npm"
    pip_index_url: str = ""
    pip_extra_args: list[str] = msgspec.field(default_factory=list)
    npm_registry: str = ""
    ruby: str = "/usr/bin/ruby"
    gem_index_url: str = ""
    java: str = "/usr/bin/java"
    tomcat: str = "/usr/share/java"
    environment_file: str = "/etc/ingot/environment"
    max_package_mb: int = 512
    max_unpacked_mb: int = 2048
    max_files: int = 100_000
    max_droplet_mb: int = 1024
    keep_caches: int = 50
    min_free_mb: int = 512

    def problems(self) -> list[str]:
        """Return problems: counts must be positive, uids in their range, paths absolute."""
        problems = [
            f"{n}: must be at least 1, not {getattr(self, n)}" for n in _COUNTS if getattr(self, n) < 1
        ]
        problems += [
            f"{n}: must be at least 0, not {getattr(self, n)}"
            for n in ("max_waiting", "keep_caches", "min_free_mb")
            if getattr(self, n) < 0
        ]
        if self.sandbox not in ("systemd", "process"):
            problems.append(f"sandbox: must be systemd or process, not {self.sandbox!r}")
        if self.max_tasks > 99:
            problems.append(
                f"max_tasks: must be at most 99 (one uid each, and a spare one), not {self.max_tasks}"
            )
        problems += [
            f"{n}: must be an absolute path, not {getattr(self, n)!r}"
            for n in ("work_dir", "python", "npm", "ruby", "java", "tomcat", "environment_file")
            if not Path(getattr(self, n)).is_absolute()
        ]
        return problems

    @property
    def uids(self) -> range:
        """Return the uids of builds: one for each, and one more, because the next may begin before the last is cleared away."""
        return range(self.first_uid, self.first_uid + self.max_tasks + 1)

    def lacking(self) -> list[str]:
        """Return the accounts that the machine lacks for builds."""
        if self.sandbox != "systemd":
            return []
        return accounts.problems("first_uid", self.uids, role="stager", prefix="ingot-build-")
