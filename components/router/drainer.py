"""The drain of a router's WebSockets: the times at which nginx tells them to go elsewhere."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Protocol

from components.common import log
from components.router.errors import NginxError

logger = log.get(__name__)

# Well within the time for which nginx keeps the order (lua/control.lua, TELLING_SECONDS).
_PERIOD_SECONDS = 1.0
# The largest step back of a clock that is kept right.
_CLOCK_SECONDS = 60.0


class WebSocketClient(Protocol):
    """The call to nginx (`components.router.nginx.Nginx`)."""

    async def tell(self, seconds: float) -> None:
        """Have its WebSockets told to go, spread over so many seconds; 0 ends it."""


class Drainer:
    """The drain that a flag file begins: first balancers get time to notice, then WebSockets are told.

    The file's own time counts, so that a restart of this process begins nothing anew.

    Args:
        flag: the file.
        nginx: the client of the data socket.
        notice_seconds: from the flag to the first WebSocket.
        spread_seconds: from the first WebSocket to the last.
    """

    def __init__(
        self, flag: Path, nginx: WebSocketClient, notice_seconds: float, spread_seconds: float
    ) -> None:
        self._flag = flag
        self._nginx = nginx
        self._notice_seconds = notice_seconds
        self._spread_seconds = spread_seconds
        self._telling = False

    @property
    def draining(self) -> bool:
        """Return whether the flag is there."""
        return self._flag.exists()

    async def run(self) -> None:
        """Look every second; `NginxSync` reports when nginx is silent."""
        while True:
            try:
                await self.step(time.time())
            except NginxError as error:
                logger.debug("websockets_not_told", reason=str(error))
            await asyncio.sleep(_PERIOD_SECONDS)

    async def step(self, now: float) -> None:
        """Send nginx the order that follows from the flag at `now`, in seconds since 1970.

        Raises:
            NginxError: it does not answer; the next step repeats the order.
        """
        try:
            # A time in the future: the clock was set back since, by an unknown amount.
            due = not -_CLOCK_SECONDS < now - self._flag.stat().st_mtime < self._notice_seconds
        except FileNotFoundError:
            due = False
        if due:
            if not self._telling:
                logger.info("websockets_being_told", seconds=self._spread_seconds)
            self._telling = True
            await self._nginx.tell(self._spread_seconds)
        elif self._telling:
            await self._nginx.tell(0)
            self._telling = False
