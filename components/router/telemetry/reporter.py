"""The reporter of nginx's numbers while the router runs, with each application's requests for the bus."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from components.common import aio
from components.common.bus.client import Bus
from components.common.bus.operation_messages import RouterUsage
from components.common.identity import Identity
from components.router.config import RouterConfig
from components.router.errors import NginxError
from components.router.nginx import Nginx
from components.router.telemetry.counters import CounterReading, Counters
from components.router.telemetry.metrics import Exporter
from components.router.telemetry.stats import Stats, UsageSampler

_TOTALS_SECONDS = 2.0
# Everything is read this often: it takes some hundredths of this process's time, and no row of a removed endpoint is
# used again unread (lua/endpoints.lua, REST_SECONDS).
_FEW_ROWS, _MANY_SECONDS = 5000, 15.0


class StatsReporter:
    """The transfer of nginx's numbers to `/varz`, `/metrics` and the bus.

    Args:
        config: periods.
        bus: for usage.
        identity: its id goes with the usage.
        nginx: the source of the number of connections.
    """

    def __init__(self, config: RouterConfig, bus: Bus, identity: Identity, nginx: Nginx) -> None:
        self._config = config
        self._bus = bus
        self._identity = identity
        self._nginx = nginx
        self._counters = Counters(Path(config.run_path))
        self._usage = UsageSampler()
        self._one_reader = asyncio.Lock()
        self.stats = Stats()
        self._exporter = Exporter(lambda: self.stats.reading, endpoints=config.endpoint_metrics)

    def jobs(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Return the coroutines that read and report until they are cancelled."""
        return (
            aio.every(_TOTALS_SECONDS, self._read_totals, at_once=True),
            self._export(),
            self._report_usage(),
        )

    async def _read_totals(self) -> None:
        connections = 0.0
        # `NginxSync` reports when nginx is silent.
        with contextlib.suppress(NginxError):
            # The connection that asks is no client's.
            connections = max(0.0, (await self._nginx.stats()).get("client_connections", 0) - 1)
        self._counters.find()
        self.stats.add(self._counters.totals(), connections, time.monotonic())

    async def _export(self) -> None:
        """Read each application's and endpoint's numbers, which are exported meanwhile."""
        self._exporter.register()
        last = time.monotonic()
        try:
            while True:
                reading = await self._read()
                now = time.monotonic()
                self.stats.add_reading(reading, now - last)
                last = now
                await asyncio.sleep(_TOTALS_SECONDS if self._counters.rows() < _FEW_ROWS else _MANY_SECONDS)
        finally:
            self._exporter.unregister()

    async def _report_usage(self) -> None:
        self._usage.mark_sent(await self._read(), time.monotonic())
        await aio.every(self._config.usage_seconds, self._publish_requests)

    async def _publish_requests(self) -> None:
        """Publish the requests; a sample that cannot be sent is part of the next."""
        if not self._bus.connected:
            return
        reading = await self._read()
        now = time.monotonic()
        sample = self._usage.sample(reading, now)
        if sample is None:
            return
        seconds, requests = sample
        if requests:
            message = RouterUsage(
                router=self._identity.uuid,
                at=int(time.time()),
                seconds=round(seconds, 3),
                requests=requests,
            )
            await self._bus.publish("ingot.router.usage", message)
        self._usage.mark_sent(reading, now)

    async def _read(self) -> CounterReading:
        async with self._one_reader:
            self._counters.find()
            reading = self._counters.totals()
            with contextlib.closing(self._counters.read()) as parts:
                for part in parts:
                    if part is None:
                        # Registrations and misses must not wait for this.
                        await asyncio.sleep(0)
                    else:
                        reading = part
            return reading
