"""The synchronisation of nginx's routes with the table: deltas as they arise, the whole table whenever nginx differs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise

from prometheus_client import Counter, Gauge

from components.common import log
from components.common.identity import new_id
from components.router.errors import NginxError
from components.router.nginx import Delta, Nginx
from components.router.routes import Endpoint, from_dump
from components.router.table import Table

DELTAS = Counter("ingot_router_deltas_total", "Changes handed to nginx.")
FULLS = Counter("ingot_router_full_tables_total", "Whole tables handed to nginx.")
SYNCED = Gauge("ingot_router_nginx_synced", "1 while nginx holds this process's table.")

# One worker takes one delta between two requests: small ones do not show in the other requests' latency.
MAX_ENDPOINTS = 250
_CHECK_SECONDS = 1.0

logger = log.get(__name__)


class NginxSync:
    """The sender of one epoch's deltas.

    Args:
        nginx: the data socket's client.
        table: whose changes are pushed.
        batch_seconds: how long changes are gathered.

    Attributes:
        problem: why nginx does not hold the table; None while it does.
        inherited: whether nginx held a whole table of a predecessor, and this one began with it.
    """

    def __init__(self, nginx: Nginx, table: Table, batch_seconds: float = 0.01) -> None:
        # The epoch shows that a table was made with the same hosts of the platform.
        self._kept = _mark(table.platform)
        self.epoch = f"{self._kept}{new_id()}"
        self._nginx = nginx
        self._table = table
        self._batch = batch_seconds
        self._seq = 0
        self._wake = asyncio.Event()
        self._requested = 0
        self._done = 0
        self._turn = asyncio.Condition()
        self._contact = False
        self.inherited = False
        self.problem: str | None = "nginx was not given the routes yet"

    @property
    def synced(self) -> bool:
        """Return whether nginx holds the table as it was a moment ago."""
        return self.problem is None

    def wake(self) -> None:
        """Signal that the table changed."""
        self._wake.set()

    async def flush(self, timeout: float) -> bool:
        """Wait until nginx holds the present table; return False when it does not within `timeout` seconds."""
        self._requested += 1
        mine = self._requested
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._turn:
                await self._turn.wait_for(lambda: self._done >= mine)
        return self._done >= mine

    async def run(self) -> None:
        """Push for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _CHECK_SECONDS)
            self._wake.clear()
            if self._table.changed and self._batch:
                await asyncio.sleep(self._batch)
            await self.step()

    async def step(self) -> None:
        """Bring nginx up to date once, and record in `problem` why that failed."""
        requested = self._requested
        try:
            await self._bring_up_to_date()
        except NginxError as error:
            if self.problem != str(error):
                logger.warning("nginx_out_of_date", reason=str(error))
            self.problem = str(error)
            SYNCED.set(0)
            if error.status == 507:
                # A full memory does not empty itself: sending the table again at once would only cost time.
                await asyncio.sleep(_CHECK_SECONDS)
            return
        if self.problem is not None:
            logger.info("nginx_up_to_date", hosts=self._table.hosts)
        self.problem = None
        SYNCED.set(1)
        async with self._turn:
            self._done = requested
            self._turn.notify_all()

    async def _bring_up_to_date(self) -> None:
        held = await self._nginx.state()
        if not self._contact:
            # Loaded or not: a predecessor that ended while it sent a whole table leaves both parts, and nginx serves
            # them.
            if held.epoch is not None and held.epoch != self.epoch:
                await self._adopt(platform=held.loaded and held.epoch.startswith(self._kept))
                self.inherited = held.loaded
            self._contact = True
        if held.epoch != self.epoch or held.seq != self._seq or not held.loaded:
            await self._push_all()
        elif self._table.changed:
            try:
                await self._push_changes()
            except NginxError as error:
                if error.status != 409:
                    # It is unknown whether nginx took it: the next state, or a whole table, tells.
                    self._seq = -1
                    raise
                await self._push_all()

    async def _adopt(self, *, platform: bool) -> None:
        dump = await self._nginx.routes()
        taken = self._table.adopt(from_dump(dump.routes), time.monotonic(), platform=platform)
        logger.info("routes_adopted", routes=taken)

    async def _push_changes(self) -> None:
        changed = self._table.take_changes()
        for hosts, gone in self._slices(changed):
            await self._nginx.push(Delta(self.epoch, self._seq + 1, hosts, gone))
            self._seq += 1
            DELTAS.inc()

    async def _push_all(self) -> None:
        """Send the whole table in parts; changes meanwhile stay in the set of changes and follow as deltas."""
        self._table.take_changes()
        started = time.monotonic()
        self._seq = max(self._seq, 0)
        parts = [*self._slices(self._table.names()), None] if self._table.hosts else [({}, []), None]
        for number, (part, following) in enumerate(pairwise(parts)):
            hosts, gone = part or ({}, [])
            more = following is not None
            await self._nginx.push(
                Delta(self.epoch, self._seq + 1, hosts, gone, full=True, part=number, more=more)
            )
            self._seq += 1
        FULLS.inc()
        logger.info(
            "routes_pushed",
            hosts=self._table.hosts,
            seconds=round(time.monotonic() - started, 3),
            seq=self._seq,
        )

    def _slices(self, names: Iterable[str]) -> Iterator[tuple[dict[str, list[Endpoint]], list[str]]]:
        hosts: dict[str, list[Endpoint]] = {}
        gone: list[str] = []
        weight = 0
        for name in names:
            routes = self._table.routes(name)
            if routes:
                hosts[name] = routes
            else:
                gone.append(name)
            weight += max(1, len(routes))
            if weight >= MAX_ENDPOINTS:
                yield hosts, gone
                hosts, gone, weight = {}, [], 0
        if hosts or gone:
            yield hosts, gone


def _mark(platform: Iterable[str]) -> str:
    """Return the common beginning of the epochs of all processes that keep the same hosts."""
    digest = hashlib.sha256("\n".join(sorted(platform)).encode()).hexdigest()
    return f"{digest[:16]}-"
