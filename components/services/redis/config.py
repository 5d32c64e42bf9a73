"""The configuration of the Redis node."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec

from components.common.units import accounts
from components.services.base.config import NodeConfig

# Redis itself takes some MB before the first key.
_LEAST_MB = 8


class PortRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ports from `first` to `last`, both included."""

    first: int = 5000
    last: int = 5999

    def problems(self) -> list[str]:
        """Return a problem for numbers out of order, or that are no ports."""
        ordered = 0 < self.first <= self.last <= 65535
        return [] if ordered else [f"first: must be from 1 to last ({self.last}), and last at most 65535"]


class UidRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Uids from `first` to `last`, both included."""

    first: int = 48000
    last: int = 48099

    def problems(self) -> list[str]:
        """Return a problem for numbers out of order, or of the machine's own accounts."""
        return [] if 1000 <= self.first <= self.last else [f"first: must be from 1000 to last ({self.last})"]


class RedisNodeConfig(NodeConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The Redis node's configuration.

    Attributes:
        run_dir: for files that need not survive a boot.
        sandbox: `systemd`: a unit for each instance, as root; `process`: plain processes, for development.
        executable: the server.
        bind: address its servers listen on; 0.0.0.0 is all.
        ports: of the servers.
        memory_mb: the most that an instance stores.
        max_clients: connections of one instance.
        uids: of the servers, one each, and groups of the same numbers.
        slice: the systemd slice of all instances.
        start_timeout: seconds a server may take until it answers; with much data it takes longer and is waited for.
        stop_grace: seconds between SIGTERM and SIGKILL.
    """

    run_dir: str = "/run/ingot-service-redis-node"
    sandbox: str = "systemd"
    executable: str = "/usr/bin/redis-server"
    bind: str = "0.0.0.0"  # noqa: S104 - applications on all DEAs reach it; each instance has passwords
    ports: PortRange = PortRange()
    memory_mb: int = 64
    max_clients: int = 500
    uids: UidRange = UidRange()
    slice: str = "ingot-services.slice"
    start_timeout: float = 15
    stop_grace: float = 10

    def problems(self) -> list[str]:
        """Return problems between several keys."""
        problems = super().problems()
        if self.sandbox not in {"systemd", "process"}:
            problems.append(f"sandbox: must be systemd or process, not {self.sandbox!r}")
        problems += [
            f"{name}: must be an absolute path, not {getattr(self, name)!r}"
            for name in ("run_dir", "executable")
            if not Path(getattr(self, name)).is_absolute()
        ]
        if self.memory_mb < _LEAST_MB:
            problems.append(f"memory_mb: must be at least {_LEAST_MB}, not {self.memory_mb}")
        problems += [
            f"{name}: must be more than 0"
            for name in ("max_clients", "start_timeout")
            if getattr(self, name) <= 0
        ]
        if self.stop_grace < 0:
            problems.append("stop_grace: must not be negative")
        try:
            ipaddress.ip_address(self.bind)
        except ValueError:
            problems.append(f"bind: must be an IP address, not {self.bind!r}")
        if self.capacity > self.ports.last - self.ports.first + 1:
            problems.append("capacity: must be at most the number of ports")
        if self.capacity > self.uids.last - self.uids.first + 1:
            problems.append("capacity: must be at most the number of uids")
        return problems

    def lacking(self) -> list[str]:
        """Return the accounts that the machine lacks for servers."""
        if self.sandbox != "systemd":
            return []
        uids = range(self.uids.first, self.uids.last + 1)
        return accounts.problems("uids", uids, role="service_redis", prefix="ingot-redis-")

    @property
    def unit_memory_mb(self) -> int:
        """Return the hard limit of a unit: rewriting the log of changes copies data written meanwhile."""
        return 2 * self.memory_mb + 64

    @property
    def local_address(self) -> str:
        """Return the address at which the node itself reaches its servers."""
        return "127.0.0.1" if ipaddress.ip_address(self.bind).is_unspecified else self.bind
