"""The bus: typed messages over NATS, connected for ever, never fatal.

A component registers its subscriptions, then calls `start`, which returns at once: the connection is made, and made
again, in the background. What cannot be decoded is counted and dropped. What cannot be sent for want of a connection is
not queued: hints are worthless later, and everyone re-announces on reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, overload

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from prometheus_client import Counter, Gauge

from components.common import log, tasks
from components.common.config import BusConfig
from components.common.errors import BusError, BusUnavailableError, MessageError
from components.common.inbox import Inbox
from components.common.subjects import inbox_prefix, is_inbox

T = TypeVar("T")
Handler = Callable[["Incoming[Any]"], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]

RECEIVED = Counter("ingot_bus_received_total", "Messages taken from the bus.", ["subject"])
MALFORMED = Counter(
    "ingot_bus_malformed_total", "Messages dropped because they broke the contract.", ["subject"]
)
FAILED = Counter("ingot_bus_handler_errors_total", "Messages whose handling raised.", ["subject"])
UNSENT = Counter("ingot_bus_unsent_total", "Messages not sent for want of a connection.", ["subject"])
REFUSED_REPLIES = Counter(
    "ingot_bus_refused_replies_total",
    "Messages that wanted an answer elsewhere than at an inbox.",
    ["subject"],
)
CONNECTED = Gauge("ingot_bus_connected", "1 while connected to the bus.")
RECONNECTS = Counter("ingot_bus_reconnects_total", "Connections made again after a loss.")

_RETRY_SECONDS = (0.2, 1.0)
# What decoding raises; the last for what is nested too deeply.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
logger = log.get(__name__)


class BusNoAnswerError(BusError):
    """A request was sent and nobody answered within its time."""


class Incoming(Generic[T]):
    """One message: `subject`, the decoded `body`, and a way to answer at `reply`, the sender's inbox, empty where it has none."""

    __slots__ = ("_bus", "body", "reply", "subject")

    def __init__(self, bus: Bus, subject: str, body: T, reply: str) -> None:
        self._bus = bus
        self.reply = reply
        self.subject = subject
        self.body = body

    @property
    def wants_reply(self) -> bool:
        """True when the sender waits for an answer."""
        return bool(self.reply)

    async def respond(self, message: object) -> bool:
        """Answer the sender; does nothing when no answer is wanted."""
        return bool(self.reply) and await self._bus.publish(self.reply, message)


class Bus:
    """A component's connection to NATS.

    Args:
        config: addresses, user and password.
        name: shown in the server's connection list.
    """

    def __init__(self, config: BusConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._client: Client | None = None
        self._subscriptions: list[tuple[str, str, Callable[[Msg], Awaitable[None]]]] = []
        self._live: dict[str, list[Subscription]] = {}
        self._hooks: list[Hook] = []
        self._connecting: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._first = asyncio.Event()
        self._inbox = Inbox()
        self._lost_at: float | None = time.monotonic()

    @property
    def connected(self) -> bool:
        """True while messages flow."""
        return self._client is not None and self._client.is_connected

    def seconds_lost(self) -> float:
        """Give how long there has been no connection; 0.0 while there is one."""
        return 0.0 if self.connected or self._lost_at is None else time.monotonic() - self._lost_at

    def on_connect(self, hook: Hook) -> None:
        """Have a coroutine run after every connection made, the first included: the place to re-announce."""
        self._hooks.append(hook)

    @overload
    def subscribe(
        self, subject: str, kind: type[T], handler: Callable[[Incoming[T]], Awaitable[None]], queue: str = ""
    ) -> None: ...
    @overload
    def subscribe(
        self, subject: str, kind: None, handler: Callable[[Incoming[Any]], Awaitable[None]], queue: str = ""
    ) -> None: ...
    def subscribe(self, subject: str, kind: type[Any] | None, handler: Handler, queue: str = "") -> None:
        """Register a handler; call before `start`.

        Args:
            subject: may hold the wildcards `*` and `>`.
            kind: the body's type; None takes any payload: JSON decoded, an empty one as None, else the bytes.
            handler: called for one message of this subject at a time; long work belongs in a task of its own.
            queue: NATS queue group: one member answers.
        """
        decode = _any if kind is None else msgspec.json.Decoder(kind).decode

        async def receive(message: Msg) -> None:
            RECEIVED.labels(subject).inc()
            try:
                body = decode(message.data)
            except _UNREADABLE as error:
                MALFORMED.labels(subject).inc()
                logger.warning("message_malformed", subject=message.subject, reason=str(error))
                return
            reply = message.reply
            if reply and not is_inbox(reply):
                # Whoever sent it would have us say something there, with our rights.
                REFUSED_REPLIES.labels(subject).inc()
                logger.warning("reply_subject_refused", subject=message.subject, reply=reply[:80])
                reply = ""
            try:
                await handler(Incoming(self, message.subject, body, reply))
            except Exception:
                # One bad message must not end the subscription.
                FAILED.labels(subject).inc()
                logger.exception("message_handler_failed", subject=message.subject)

        self._subscriptions.append((subject, queue, receive))

    async def unsubscribe(self, subject: str) -> None:
        """Take no more messages of a subject; those that have arrived are still handled."""
        self._subscriptions = [s for s in self._subscriptions if s[0] != subject]
        for live in self._live.pop(subject, []):
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await (live.drain() if self.connected else live.unsubscribe())  # type: ignore[no-untyped-call]

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        self._connecting = asyncio.create_task(self._connect(), name="bus-connect")

    async def wait_connected(self, timeout: float) -> bool:
        """Wait for the first connection; False when it is not there in time. Hooks may still be running."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), timeout)
        return self.connected

    async def publish(self, subject: str, message: object = None) -> bool:
        """Send a message; None sends an empty payload. False, and counted, when there is no connection."""
        client = self._client
        if client is None or not client.is_connected:
            UNSENT.labels(subject if not subject.startswith("_INBOX") else "reply").inc()
            return False
        try:
            await client.publish(subject, encode(message))
        except (nats.errors.Error, OSError) as error:
            logger.warning("message_not_sent", subject=subject, reason=type(error).__name__)
            return False
        return True

    async def request(self, subject: str, message: object, kind: type[T], timeout: float = 2.0) -> T:
        """Ask and wait for the first answer.

        Raises:
            BusUnavailableError: no connection.
            BusNoAnswerError: nobody answered within `timeout` seconds, or nobody listens.
            MessageError: the answer is not a `kind`.
        """
        client = self._require()
        answers: list[bytes] = []

        def take(answer: bytes) -> bool:
            answers.append(answer)
            return True

        try:
            await self._inbox.ask(client, subject, encode(message), timeout, take)
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailableError(f"{subject}: the bus connection failed") from error
        if not answers:
            raise BusNoAnswerError(f"{subject}: no answer within {timeout:g} s")
        try:
            return msgspec.json.decode(answers[0], type=kind)
        except _UNREADABLE as error:
            raise MessageError(subject, f"answer {error}") from error

    async def request_many(
        self,
        subject: str,
        message: object,
        kind: type[T],
        timeout: float = 2.0,
        expected: int | None = None,
        *,
        enough: Callable[[list[T]], bool] | None = None,
    ) -> list[T]:
        """Ask everybody and collect the answers until `expected` are there or `timeout` seconds passed.

        Answers that break the contract are counted and left out. `enough`, asked after every answer, ends it early too.

        Raises:
            BusUnavailableError: no connection.
        """
        client = self._require()
        answers: list[T] = []
        decoder = msgspec.json.Decoder(kind)

        def take(answer: bytes) -> bool:
            try:
                answers.append(decoder.decode(answer))
            except _UNREADABLE:
                MALFORMED.labels(subject).inc()
                return False
            return (expected is not None and len(answers) >= expected) or (
                enough is not None and enough(answers)
            )

        try:
            await self._inbox.ask(client, subject, encode(message), timeout, take)
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailableError(f"{subject}: the bus connection failed") from error
        return answers

    async def close(self) -> None:
        """Send what is pending, finish handlers at work, and disconnect."""
        await tasks.end({self._connecting} if self._connecting is not None else ())
        for task in self._background:
            task.cancel()
        client, self._client = self._client, None
        self._inbox.close()
        if client is None:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            # drain() raises while reconnecting, and closes when done.
            await (client.drain() if client.is_connected else client.close())

    def _require(self) -> Client:
        if self._client is None or not self._client.is_connected:
            raise BusUnavailableError("there is no connection to the bus; it is being re-established")
        return self._client

    async def _connect(self) -> None:
        attempt = 0
        while self._client is None:
            attempt += 1
            try:
                client = await nats.connect(
                    servers=self._config.urls,
                    user=self._config.user or None,
                    password=self._config.password or None,
                    name=self._name,
                    inbox_prefix=inbox_prefix(self._config.user).encode(),
                    connect_timeout=2,
                    reconnect_time_wait=0.5,
                    max_reconnect_attempts=-1,
                    allow_reconnect=True,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    drain_timeout=10,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_reconnect,
                )
            except (OSError, nats.errors.Error, TimeoutError) as error:
                if attempt == 1:
                    logger.warning("bus_unreachable", reason=str(error) or type(error).__name__)
                await asyncio.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311 - spreads a herd, guards nothing
                continue
            for subject, queue, receive in self._subscriptions:
                live = await client.subscribe(subject, queue=queue, cb=receive)
                self._live.setdefault(subject, []).append(live)
            await self._inbox.open(client)
            await client.flush()
            self._client = client
        self._lost_at = None
        self._first.set()
        CONNECTED.set(1)
        logger.info("bus_connected")
        await self._run_hooks()

    async def _run_hooks(self) -> None:
        for hook in self._hooks:
            try:
                await hook()
            except Exception:
                logger.exception("bus_hook_failed")

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.Error) and "permissions violation" in str(error).lower():
            logger.error("bus_permission_denied", reason=str(error))
        elif self.connected:
            logger.warning("bus_error", reason=str(error) or type(error).__name__)

    async def _on_disconnect(self) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            CONNECTED.set(0)
            logger.warning("bus_lost")

    async def _on_reconnect(self) -> None:
        self._lost_at = None
        CONNECTED.set(1)
        RECONNECTS.inc()
        logger.info("bus_reconnected")
        # In a task: the client waits for this callback before it hands out messages.
        task = asyncio.create_task(self._run_hooks(), name="bus-hooks")
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def encode(message: object) -> bytes:
    """Give a message as it goes over the wire; bytes are taken for one that is encoded."""
    if message is None:
        return b""
    return message if isinstance(message, bytes) else msgspec.json.encode(message)


def _any(data: bytes) -> Any:
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except _UNREADABLE:
        return data
