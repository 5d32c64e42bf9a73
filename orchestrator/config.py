"""The orchestrator's configuration: `/etc/ingot/orchestrator.yml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from components.common.bus.platform_hosts import orchestrator_host
from components.common.config import DaemonConfig

SCHEMES = ("postgresql+psycopg://", "sqlite:///")
SYSTEMD, PROCESS = "systemd", "process"
RUNNERS = (SYSTEMD, PROCESS)
# Machines of a pool are named prefix and number (`dea3`), and a name is one DNS label.
_PREFIX = re.compile(r"^[a-z]([a-z0-9-]{0,30}[a-z-])?$")


class SshConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The SSH access to machines. `deadline`: seconds until a started machine must have answered.

    `known_hosts` are the files the pinned host keys are written to; the first is the one that is read.
    """

    private_key: str
    known_hosts: list[str]
    user: str = "root"
    port: int = 22
    deadline: float = 120.0

    def problems(self) -> list[str]:
        """Return a problem for each file without an absolute path: plays run in another folder."""
        found = [
            f"{key}: must be an absolute path, not {value!r}"
            for key, value in [
                ("private_key", self.private_key),
                *(("known_hosts", k) for k in self.known_hosts),
            ]
            if not Path(value).is_absolute()
        ]
        if not self.known_hosts:
            found.append("known_hosts: must name at least one file")
        if not self.user:
            found.append("user: must not be empty")
        if not 1 <= self.port <= 65535:
            found.append(f"port: must be 1 to 65535, not {self.port}")
        if self.deadline <= 0:
            found.append("deadline: must be more than 0 seconds")
        return found


class PoolConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pool: equal machines, made by one provider from one image; `floor` and `maximum` count all its members.

    `groups` are the inventory's groups of its machines; the first is the one whose members are the pool's.
    `prefix` and a number make the names. `options` go to the provider with every machine it makes.
    """

    provider: str
    image: str
    prefix: str
    groups: list[str]
    floor: int = 1
    maximum: int = 10
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return the problems that types cannot express."""
        found = [f"{key}: must not be empty" for key in ("provider", "image") if not getattr(self, key)]
        if not _PREFIX.match(self.prefix):
            found.append(
                f"prefix: must be lower-case letters, digits and -, not ending in a digit, not {self.prefix!r}"
            )
        if not self.groups or not all(self.groups):
            found.append("groups: must name at least one group of the inventory")
        if self.floor < 0:
            found.append("floor: must be 0 or more")
        if self.maximum < max(1, self.floor):
            found.append("maximum: must be 1 or more, and not less than floor")
        return found


class Deadlines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seconds that a step may take before it has failed."""

    create: float = 300.0
    """A provider makes or deletes a machine."""
    play: float = 1800.0
    """One playbook, whatever it does."""
    beat: float = 60.0
    """A configured DEA is heard on the bus."""
    empty: float = 600.0
    """A draining DEA has no instance left."""

    def problems(self) -> list[str]:
        """Return a problem for each deadline that is not positive."""
        return [f"{k}: must be more than 0 seconds" for k in self.__struct_fields__ if getattr(self, k) <= 0]


class OrchestratorConfig(DaemonConfig, frozen=True, kw_only=True):
    """The orchestrator's configuration.

    `status.user` and `status.password` guard `/varz` and `/metrics`, which are served on `port`; `status.host` and
    `status.port` are not used. `controllers` are URLs asked in turn whether a token is an administrator's.
    """

    host: str = "0.0.0.0"  # noqa: S104 - operators and routers ask it; the firewall narrows who
    port: int = 9071
    threads: int = 16
    database_url: str = "sqlite:////var/lib/ingot/orchestrator/orchestrator.db"
    database_wait_seconds: float = 60.0
    state_path: str = "/var/lib/ingot/orchestrator"
    inventory: str
    """The folder whose files are the inventory; `20-dea.yml` and `16-release.yml` in it are written here."""
    releases: str
    """`<releases>/X/plays` holds the playbooks of release X."""
    venv: str = ""
    """The virtual environment with ansible-core; empty: the one this daemon runs from, by its resolved path."""
    play_runner: str = SYSTEMD
    domain: str = "ingot.localhost"
    controllers: list[str] = msgspec.field(default_factory=list)
    controller_timeout: float = 2.0
    operator_password: str
    parallel_jobs: int = 4
    jobs_days: int = 90
    """Days for which jobs, with their steps and lines, are kept after their end."""
    drain_seconds: float = 1.0

    ssh: SshConfig
    providers: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """Providers by name; `driver` is the kind, the other keys are the driver's own."""
    pools: dict[str, PoolConfig] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines()

    @property
    def api(self) -> str:
        """Return the API's host name at the routers."""
        return orchestrator_host(self.domain)

    def problems(self) -> list[str]:
        """Return the problems that types cannot express; those of the drivers' options are found by `iaas.check`."""
        found = []
        if not self.database_url.startswith(SCHEMES):
            found.append(f"database_url: must be one of {', '.join(SCHEMES)}…")
        if self.play_runner not in RUNNERS:
            found.append(f"play_runner: must be one of {', '.join(RUNNERS)}, not {self.play_runner!r}")
        found.extend(
            f"{key}: must be an absolute path, not {getattr(self, key)!r}"
            for key in ("state_path", "inventory", "releases", *(["venv"] if self.venv else []))
            if not Path(getattr(self, key)).is_absolute()
        )
        found.extend(
            f"controllers: must be http://host:port, not {url!r}"
            for url in self.controllers
            if not url.startswith(("http://", "https://"))
        )
        if len(self.operator_password) < 8:
            found.append("operator_password: must have 8 characters or more")
        if not 0 <= self.port <= 65535:
            found.append(f"port: must be 0 to 65535, not {self.port}")
        found.extend(
            f"{key}: must be 1 or more"
            for key in ("threads", "parallel_jobs", "jobs_days")
            if getattr(self, key) < 1
        )
        if self.controller_timeout <= 0:
            found.append("controller_timeout: must be more than 0 seconds")
        if not self.domain:
            found.append("domain: must not be empty")
        found.extend(
            f"providers.{name}.driver: must be the name of a driver"
            for name, options in self.providers.items()
            if not (isinstance(options.get("driver"), str) and options["driver"])
        )
        found.extend(self._pool_problems())
        return found

    def _pool_problems(self) -> list[str]:
        found = []
        prefixes: dict[str, str] = {}
        for name, pool in self.pools.items():
            if pool.provider not in self.providers:
                known = ", ".join(sorted(self.providers)) or "none"
                found.append(f"pools.{name}.provider: {pool.provider!r} is not a provider; known: {known}")
            other = prefixes.setdefault(pool.prefix, name)
            if other != name:
                found.append(f"pools.{name}.prefix: {pool.prefix!r} is that of pool {other} already")
        return found
