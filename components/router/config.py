"""The router process's configuration, `/etc/ingot/router.yml`."""

from __future__ import annotations

from pathlib import Path

from components.common.bus.platform_hosts import host_problems
from components.common.config import DaemonConfig
from components.router import deas
from components.router.errors import RouteError


class RouterConfig(DaemonConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The router's configuration.

    Args:
        platform_hosts: the platform's own hosts, `api.<domain>` and `orchestrator.<domain>` among them: their routes are taken from
            `ingot.platform.register` only, and no wildcard serves them.
        dea_addresses_file: the addresses and networks that an application's route may carry, one a line; a changed file counts within
            seconds. An empty file, and no file, let a route carry any address.
        run_path: the folder of both sockets; the flag file `drain` in it takes the router out of readiness.
        prune_seconds: age at which an unconfirmed route is dropped.
        sweep_seconds: between two looks for such routes.
        start_seconds: between two `router.start`.
        register_seconds: how often peers that greet are asked to register.
        drain_seconds: the time for balancers in front of a drained router to notice, before its WebSockets are told to go.
        websocket_drain_seconds: from the first told to the last.
        hold_seconds: how long a request for an unknown host waits while routes are still being learned.
        settle_seconds: after the first connection to the bus, how long routes count as still being learned.
        usage_seconds: between two `ingot.router.usage`.
        endpoint_metrics: whether `/metrics` names every endpoint; some thirty lines each.
        batch_milliseconds: how long changes are gathered before they go to nginx.
    """

    platform_hosts: list[str]
    dea_addresses_file: str = ""
    run_path: str = "/run/ingot-router"
    prune_seconds: float = 120
    sweep_seconds: float = 30
    start_seconds: float = 30
    register_seconds: int = 20
    drain_seconds: float = 30
    websocket_drain_seconds: float = 30
    hold_seconds: float = 5
    settle_seconds: float = 3
    batch_milliseconds: int = 10
    usage_seconds: float = 60
    endpoint_metrics: bool = True

    def problems(self) -> list[str]:
        """Return a problem for ages that leave no room for a few registrations."""
        problems = [
            f"{name}: must be more than 0"
            for name in (
                "prune_seconds",
                "sweep_seconds",
                "start_seconds",
                "register_seconds",
                "usage_seconds",
                "websocket_drain_seconds",
            )
            if getattr(self, name) <= 0
        ]
        problems += [
            f"{name}: must be 0 or more"
            for name in ("drain_seconds", "hold_seconds", "settle_seconds", "batch_milliseconds")
            if getattr(self, name) < 0
        ]
        if not self.platform_hosts:
            problems.append(
                "platform_hosts: must name the platform's own hosts, or any application can take them"
            )
        problems.extend(host_problems("platform_hosts", self.platform_hosts))
        if self.prune_seconds <= self.start_seconds:
            problems.append("prune_seconds: must be more than start_seconds, or live routes are dropped")
        problems += [
            f"{name}: must be an absolute path"
            for name, path in (
                ("run_path", self.run_path),
                ("dea_addresses_file", self.dea_addresses_file or "/"),
            )
            if not path.startswith("/")
        ]
        return problems

    def lacking(self) -> list[str]:
        """Return a problem for a missing file of DEAs' addresses."""
        if not self.dea_addresses_file:
            return []
        try:
            deas.read(Path(self.dea_addresses_file))
        except RouteError as error:
            return [f"dea_addresses_file: {error}: apply the role router"]
        return []
