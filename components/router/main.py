"""`ingot-router`: keeps the route table, sends it to nginx, and answers nginx's questions about unknown hosts."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from components.common import aio, log
from components.common.bus.client import Bus
from components.common.daemon import run
from components.common.identity import Identity
from components.router.config import RouterConfig
from components.router.deas import LOOK_SECONDS, DeaAddresses
from components.router.drainer import Drainer
from components.router.miss_handler import MissHandler
from components.router.nginx import Nginx
from components.router.nginx_sync import NginxSync
from components.router.registrar import Registrar
from components.router.table import Table
from components.router.telemetry.reporter import StatsReporter

logger = log.get(__name__)


class Router:
    """The router process."""

    def __init__(self, config: RouterConfig, bus: Bus, identity: Identity) -> None:
        self._config = config
        folder = Path(config.run_path)
        self._table = Table(config.prune_seconds, config.platform_hosts)
        self._nginx = Nginx(folder / "data.sock")
        self._nginx_sync = NginxSync(self._nginx, self._table, config.batch_milliseconds / 1000)
        self._deas = DeaAddresses(Path(config.dea_addresses_file) if config.dea_addresses_file else None)
        self._registrar = Registrar(
            config, bus, identity, self._table, self._nginx_sync.wake, deas=self._deas
        )
        self._miss_handler = MissHandler(
            folder / "router.sock",
            self._table,
            self._nginx_sync,
            lambda: self._registrar.settled,
            config.hold_seconds,
        )
        self._drainer = Drainer(
            folder / "drain", self._nginx, config.drain_seconds, config.websocket_drain_seconds
        )
        self._stats_reporter = StatsReporter(config, bus, identity, self._nginx)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take over the routes that nginx serves, then listen."""
        await self._nginx.open()
        await self._nginx_sync.step()
        await self._miss_handler.start()
        for job in (
            self._nginx_sync.run(),
            aio.every(self._config.start_seconds, self._registrar.greet),
            aio.every(self._config.sweep_seconds, lambda: self._registrar.prune(time.monotonic())),
            aio.every(LOOK_SECONDS, self._deas.refresh),
            self._drainer.run(),
            *self._stats_reporter.jobs(),
        ):
            task = asyncio.create_task(job)
            task.add_done_callback(_report)
            self._tasks.append(task)

    async def stop(self) -> None:
        """End; nginx goes on serving the routes it has."""
        await aio.cancel_and_wait(self._tasks)
        await self._miss_handler.stop()
        await self._nginx.close()

    def ready(self) -> list[str]:
        """Return the reasons against serving: nginx lacks the table, the table is not complete, or the router is drained."""
        reasons = []
        if self._nginx_sync.problem is not None:
            reasons.append(self._nginx_sync.problem)
        # A process that starts anew while the bus is away serves the routes of its predecessor.
        if not self._registrar.settled and not self._nginx_sync.inherited:
            reasons.append("routes are still being learned from the bus")
        if self._drainer.draining:
            reasons.append("draining")
        return reasons

    def varz(self) -> dict[str, object]:
        """Return the facts of protocol 3.5."""
        return {
            **self._stats_reporter.stats.varz(self._table.tags, self._table.host),
            "urls": self._table.hosts,
            "droplets": self._table.endpoints,
            "refused_platform_registrations": self._registrar.guard.platform.count,
            "refused_addresses": self._registrar.guard.strange.count,
            "dea_addresses": len(self._deas),
            "nginx_synced": self._nginx_sync.synced,
            "draining": self._drainer.draining,
        }


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        # A router that no longer follows the bus must not look alive; its successor takes over the routes that nginx
        # serves.
        logger.critical("router_task_failed", reason=str(error), exc_info=error)
        signal.raise_signal(signal.SIGTERM)


def main() -> None:
    """Run the daemon."""
    run("router", "Router", RouterConfig, Router)


if __name__ == "__main__":
    main()
