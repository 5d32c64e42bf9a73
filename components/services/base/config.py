"""The configuration that all gateways and all nodes share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from components.common.config import DaemonConfig

_LABEL_PART = re.compile(r"[^\s-]\S*")
_NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class GatewayConfig(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A gateway's configuration; times are seconds.

    Attributes:
        controllers: their addresses, tried in turn.
        token: the secret between gateway and controllers.
        version: the label is `<name>-<version>`. It names what controllers have stored, so it must not change while there
            are instances.
        aliases: further labels that are accepted for this one.
        timeout: how long controllers wait for this gateway; above `node_timeout`.
        node_timeout: how long a node may take.
        late_timeout: how long a late answer is still taken, to undo its result.
        handles_interval: between attempts to fetch the handles.
        register_interval: between registrations of the offering.
        check_orphan_interval: between checks for orphans; -1 checks on request only.
        double_check_orphan_interval: between the two comparisons of a check.
        purge_orphan_bindings: end bindings that a check found unknown twice: their credentials belong to no application.
            Instances, which hold data, are removed on request only.
    """

    controllers: list[str]
    token: str
    version: str
    aliases: list[str] = msgspec.field(default_factory=list)
    description: str = ""
    info_url: str | None = None
    plans: list[str] = msgspec.field(default_factory=lambda: ["free"])
    acls: dict[str, Any] | None = None
    timeout: int = 15
    node_timeout: float = 10.0
    late_timeout: float = 120.0
    handles_interval: float = 1.0
    register_interval: float = 60.0
    check_orphan_interval: float = -1
    double_check_orphan_interval: float = 300.0
    purge_orphan_bindings: bool = True
    allow_over_provisioning: bool = False
    base_dir: str

    def problems(self) -> list[str]:
        """Return problems between several keys."""
        problems = []
        if not self.controllers:
            problems.append("controllers: must name at least one http://host:port")
        problems += [
            f"controllers: must be http://host:port, not {url!r}"
            for url in self.controllers
            if not re.fullmatch(r"https?://[^\s/]+", url)
        ]
        if self.status.port == 0:
            problems.append("status.port: must be a port, at which controllers reach this gateway")
        if len(self.token) < 8:
            problems.append("token: must have at least 8 characters")
        if not _LABEL_PART.fullmatch(self.version) or "-" in self.version:
            problems.append(f"version: must be text without spaces or hyphens, not {self.version!r}")
        if not self.plans:
            problems.append("plans: must name at least one plan")
        if not Path(self.base_dir).is_absolute():
            problems.append(f"base_dir: must be an absolute path, not {self.base_dir!r}")
        positive = ("node_timeout", "handles_interval", "register_interval", "double_check_orphan_interval")
        problems += [f"{n}: must be more than 0 seconds" for n in positive if getattr(self, n) <= 0]
        if not self.node_timeout < self.timeout:
            problems.append(f"timeout: must be more than node_timeout ({self.node_timeout:g} s)")
        if not self.node_timeout < self.late_timeout:
            problems.append(f"late_timeout: must be more than node_timeout ({self.node_timeout:g} s)")
        if self.check_orphan_interval != -1 and self.check_orphan_interval <= 0:
            problems.append("check_orphan_interval: must be more than 0 seconds, or -1")
        return problems


class NodeConfig(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A node's configuration.

    Attributes:
        node_id: names it on the bus and in the credentials of its instances; it must not change while it has some.
        plan: the one it offers.
        capacity: number of instances it takes.
        announce_interval: seconds between announcements.
        base_dir: its instances, which survive restarts.
    """

    node_id: str
    plan: str = "free"
    capacity: int = 100
    announce_interval: float = 30.0
    base_dir: str

    def problems(self) -> list[str]:
        """Return problems between several keys."""
        problems = []
        if not _NODE_ID.fullmatch(self.node_id):
            problems.append(f"node_id: must consist of letters, digits, _ and -, not {self.node_id!r}")
        if self.capacity < 0:
            problems.append(f"capacity: must be 0 or more, not {self.capacity}")
        if self.announce_interval <= 0:
            problems.append("announce_interval: must be more than 0 seconds")
        if not Path(self.base_dir).is_absolute():
            problems.append(f"base_dir: must be an absolute path, not {self.base_dir!r}")
        return problems
