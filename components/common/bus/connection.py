"""One connection to NATS, made once; after a loss the bus makes another.

The client library can connect again by itself, but not always: a server that refuses a client it had let in (its password was
changed, there are too many connections) ends that client for good. So the library's own way is not used, and there is one way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from prometheus_client import Counter

from components.common import log
from components.common.bus.subjects import inbox_prefix
from components.common.config import BusConfig

REFUSED = Counter("ingot_bus_refused_total", "Attempts to connect that the bus did not accept or answer.")
_CONNECT_SECONDS = 2
# The client reports how the connection ended; a regular check covers the cases that it does not report.
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 2.0
_UNHEARD = re.compile(r'permissions violation for subscription to "([^"]+)"', re.IGNORECASE)
Receive = Callable[[Msg], Awaitable[None]]
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """A subscription to be made: `subject`, the queue group or "", and the function that receives each message."""

    subject: str
    queue: str
    receive: Receive


class Connection:
    """A connection to one NATS server.

    Args:
        config: addresses, user and password.
        name: shown in the server's list of connections.

    Attributes:
        client: the library's.
        trouble: the last failure, in words; "" where there was none.
    """

    def __init__(self, config: BusConfig, name: str) -> None:
        self.client = Client()
        self._config = config
        self._name = name
        self._live: list[tuple[Listening, Subscription]] = []
        # The subjects that the server refuses to this user, in lower case as the client library reports them, with
        # the reason.
        self._unheard: set[str] = set()
        self._told: set[str] = set()
        self._ended = asyncio.Event()
        self.trouble = ""

    @property
    def connected(self) -> bool:
        """Return whether messages flow."""
        return self.client.is_connected

    async def open(self, heard: Callable[[Client], list[Listening]]) -> str:
        """Connect and listen; return "", or the reason of the failure.

        Args:
            heard: returns the subscriptions to make, once there is a connection.
        """
        # Half of one server's time is left for the steps that follow the connection.
        seconds = _CONNECT_SECONDS * (len(self._config.urls) + 0.5)
        try:
            await asyncio.wait_for(self._open(heard), seconds)
        except Exception as error:  # noqa: BLE001 - said, and tried again
            # Any error, for instance from the answer of another program on the server's port: the next attempt may
            # succeed.
            await self.close()
            REFUSED.inc()
            return self.trouble or str(error) or type(error).__name__
        return ""

    async def listen(self, listening: Listening) -> None:
        """Subscribe to a subject."""
        live = await self.client.subscribe(listening.subject, queue=listening.queue, cb=listening.receive)
        self._live.append((listening, live))

    async def unlisten(self, subject: str) -> None:
        """Take no more messages of a subject; those that have arrived are still handled."""
        gone = [live for listening, live in self._live if listening.subject == subject]
        self._live = [(listening, live) for listening, live in self._live if listening.subject != subject]
        for live in gone:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await (live.drain() if self.connected else live.unsubscribe())  # type: ignore[no-untyped-call]

    async def keep_only(self, heard: list[Listening]) -> None:
        """Unsubscribe from all subjects that are not in `heard`."""
        for subject in {listening.subject for listening, _ in self._live} - {one.subject for one in heard}:
            await self.unlisten(subject)

    async def until_lost(self, heard_again: Callable[[], None]) -> None:
        """Wait for the end of the connection, and retry refused subscriptions meanwhile.

        Args:
            heard_again: called when a subject that was refused is heard.
        """
        while self.connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _AGAIN_SECONDS if self._unheard else _LOOK_SECONDS)
            if self._unheard and self.connected and await self._hear_again():
                heard_again()

    async def drain(self, seconds: float) -> None:
        """Send pending messages, handle those under way, and end; end at once where the connection is lost."""
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            # The library's own drain waits longer than this where the server is silent.
            await asyncio.wait_for(self.client.drain(), seconds)
        await self.close()

    async def close(self) -> None:
        """End the connection at once."""
        with contextlib.suppress(Exception):
            await self.client.close()

    async def _open(self, heard: Callable[[Client], list[Listening]]) -> None:
        await self.client.connect(
            servers=self._config.urls,
            user=self._config.user or None,
            password=self._config.password or None,
            name=self._name,
            inbox_prefix=inbox_prefix(self._config.user).encode(),
            connect_timeout=_CONNECT_SECONDS,
            # Otherwise a publisher with many pending messages waits for ever for a connection that is lost.
            flush_timeout=_CONNECT_SECONDS,
            allow_reconnect=False,
            reconnect_time_wait=1,
            max_reconnect_attempts=1,
            ping_interval=5,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            closed_cb=self._on_closed,
        )
        for listening in heard(self.client):
            await self.listen(listening)
        await self._settle()

    async def _settle(self) -> None:
        """Wait until the server has judged the subscriptions: a second PING follows all queued commands."""
        await self.client.flush(_CONNECT_SECONDS)
        await self.client.flush(_CONNECT_SECONDS)

    async def _hear_again(self) -> bool:
        """Subscribe to the refused subjects again; return whether the server accepts any of them."""
        refused, self._unheard = self._unheard, set()
        again = [listening for listening, _ in self._live if listening.subject.lower() in refused]
        try:
            for listening in again:
                await self.unlisten(listening.subject)
                await self.listen(listening)
            await self._settle()
        except (nats.errors.Error, TimeoutError, OSError):
            self._unheard |= refused
            return False
        self._told &= self._unheard
        return any(listening.subject.lower() not in self._unheard for listening in again)

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        unheard = _UNHEARD.search(text)
        if unheard is not None:
            subject = unheard[1].lower()
            self._unheard.add(subject)
            if subject in self._told:
                return
            self._told.add(subject)
        if "permissions violation" in text.lower():
            logger.error("bus_permission_denied", reason=text)
            return
        self.trouble = text
        if self.connected:
            logger.warning("bus_error", reason=text)

    async def _on_closed(self) -> None:
        self._ended.set()
