"""A component's connection to the bus: typed messages over NATS, with reconnection in the background.

A component registers its subscriptions and calls `start`, which returns at once.
The connection is made, and made again after a loss, in the background; its failures are never fatal.
A message that cannot be decoded is counted and dropped.
A message that cannot be sent for want of a connection is not queued: an old announcement is worthless, and every component
announces itself again when it has reconnected.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, overload

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import Counter, Gauge

from components.common import aio, log
from components.common.bus.connection import Connection, Listening, Receive
from components.common.bus.inbox import Inbox, Take
from components.common.bus.subjects import is_inbox
from components.common.config import BusConfig
from components.common.errors import BusError, BusUnavailableError, MessageError

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
_DRAIN_SECONDS = 10
# Per subject. A message has a megabyte at most; beyond this number the client library holds messages, up to its own
# bound in bytes.
_MOST_WAITING = 500
# The errors of decoding; RecursionError is for a document that is nested too deeply.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
logger = log.get(__name__)


class BusNoAnswerError(BusError):
    """A request was sent and no answer came within its time."""


class Incoming(Generic[T]):
    """One message: its `subject` and decoded `body`, and a way to answer.

    `reply` is the sender's inbox, empty where the sender has none.
    """

    __slots__ = ("_bus", "body", "reply", "subject")

    def __init__(self, bus: Bus, subject: str, body: T, reply: str) -> None:
        self._bus = bus
        self.reply = reply
        self.subject = subject
        self.body = body

    @property
    def wants_reply(self) -> bool:
        """Return whether the sender waits for an answer."""
        return bool(self.reply)

    async def respond(self, message: object) -> bool:
        """Answer the sender; do nothing when no answer is wanted."""
        return bool(self.reply) and await self._bus.publish(self.reply, message)


class _Subscription:
    """A subscription and its handler; the handler outlives the connection that a message came by.

    The client library ends its own handlers with the connection, in the middle of their work.
    """

    def __init__(self, subject: str, queue: str, handle: Receive) -> None:
        self._waiting: asyncio.Queue[Msg] = asyncio.Queue(_MOST_WAITING)
        self._handle = handle
        self._work: asyncio.Task[None] | None = None
        self.listening = Listening(subject, queue, self._waiting.put)

    def start(self) -> None:
        self._work = asyncio.create_task(self._run(), name=f"bus-{self.listening.subject}")

    async def end(self, seconds: float) -> None:
        """Handle the messages that have arrived, in a bounded time, and end."""
        if self._work is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._waiting.join(), seconds)
            await aio.cancel_and_wait([self._work])

    async def _run(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                await self._handle(message)
            finally:
                self._waiting.task_done()


class Bus:
    """A component's connection to NATS.

    Args:
        config: addresses, user and password.
        name: shown in the server's connection list.
    """

    def __init__(self, config: BusConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._connection: Connection | None = None
        self._subscriptions: list[_Subscription] = []
        self._hooks: list[Hook] = []
        self._connecting: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._first = asyncio.Event()
        self._inbox = Inbox()

    @property
    def connected(self) -> bool:
        """Return whether messages flow."""
        return self._connection is not None and self._connection.connected

    def on_connect(self, hook: Hook) -> None:
        """Register a coroutine that runs after every connection, the first included; a component re-announces there."""
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
                # The sender would make this process publish there, with this process's rights.
                REFUSED_REPLIES.labels(subject).inc()
                logger.warning("reply_subject_refused", subject=message.subject, reply=reply[:80])
                reply = ""
            try:
                await handler(Incoming(self, message.subject, body, reply))
            except Exception:
                # One bad message must not end the subscription.
                FAILED.labels(subject).inc()
                logger.exception("message_handler_failed", subject=message.subject)

        self._subscriptions.append(_Subscription(subject, queue, receive))

    async def unsubscribe(self, subject: str) -> None:
        """Take no more messages of a subject; those that have arrived are still handled."""
        gone = [s for s in self._subscriptions if s.listening.subject == subject]
        self._subscriptions = [s for s in self._subscriptions if s.listening.subject != subject]
        if self._connection is not None:
            await self._connection.unlisten(subject)
        await asyncio.gather(*(subscription.end(_DRAIN_SECONDS) for subscription in gone))

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        for subscription in self._subscriptions:
            subscription.start()
        self._connecting = asyncio.create_task(self._stay_connected(), name="bus-connect")

    async def wait_connected(self, timeout: float) -> bool:
        """Wait for the first connection; False when it is not there in time. Hooks may still be running."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), timeout)
        return self.connected

    async def publish(self, subject: str, message: object = None) -> bool:
        """Send a message; None sends an empty payload. False, and counted, when there is no connection."""
        if self._connection is None or not self._connection.connected:
            UNSENT.labels(subject if not subject.startswith("_INBOX") else "reply").inc()
            return False
        try:
            await self._connection.client.publish(subject, encode(message))
        except (nats.errors.Error, OSError) as error:
            logger.warning("message_not_sent", subject=subject, reason=type(error).__name__)
            return False
        return True

    async def request(self, subject: str, message: object, kind: type[T], timeout: float = 2.0) -> T:
        """Ask and wait for the first answer.

        Raises:
            BusUnavailableError: no connection.
            BusNoAnswerError: no answer came within `timeout` seconds, or there is no subscriber.
            MessageError: the answer is not a `kind`.
        """
        answers: list[bytes] = []

        def take(answer: bytes) -> bool:
            answers.append(answer)
            return True

        await self._ask(subject, message, timeout, take)
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
        """Ask all subscribers and collect answers until `expected` are there or `timeout` seconds have passed.

        Answers that break the contract are counted and left out. `enough` is called after every answer; True ends the wait too.

        Raises:
            BusUnavailableError: no connection.
        """
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

        await self._ask(subject, message, timeout, take)
        return answers

    async def close(self) -> None:
        """Send what is pending, finish handlers at work, and disconnect."""
        await aio.cancel_and_wait({self._connecting} if self._connecting is not None else ())
        await aio.cancel_and_wait(self._background)
        connection, self._connection = self._connection, None
        self._inbox.close()
        if connection is not None:
            await connection.drain(_DRAIN_SECONDS)
        await asyncio.gather(*(subscription.end(_DRAIN_SECONDS) for subscription in self._subscriptions))

    async def _ask(self, subject: str, message: object, timeout: float, take: Take) -> None:
        if self._connection is None or not self._connection.connected:
            raise BusUnavailableError("there is no connection to the bus; it is being re-established")
        try:
            await self._inbox.ask(self._connection.client, subject, encode(message), timeout, take)
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailableError(f"{subject}: the bus connection failed") from error

    async def _stay_connected(self) -> None:
        trouble = ""
        for attempt in itertools.count():
            if attempt:
                await asyncio.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311 - spreads a herd, guards nothing
            connection = Connection(self._config, self._name)
            failure = await connection.open(self._heard)
            if failure:
                if failure != trouble:
                    logger.warning("bus_unreachable", reason=failure)
                trouble = failure
                continue
            trouble = ""
            self._connection = connection
            self._arrived()
            try:
                # A subscription that ended while the connection was being made is still known to the server, and a
                # queue group would go on choosing it.
                await connection.keep_only(self._heard(connection.client))
                await connection.until_lost(self._announce)
            except Exception:
                # A bug must not end the only way back.
                logger.exception("bus_watch_failed")
            self._connection = None
            CONNECTED.set(0)
            logger.warning("bus_lost", reason=connection.trouble)
            await connection.close()

    def _heard(self, client: Client) -> list[Listening]:
        return [*(one.listening for one in self._subscriptions), self._inbox.listening(client)]

    def _arrived(self) -> None:
        CONNECTED.set(1)
        if self._first.is_set():
            RECONNECTS.inc()
        logger.info("bus_reconnected" if self._first.is_set() else "bus_connected")
        self._first.set()
        self._announce()

    def _announce(self) -> None:
        # In a task: a hook may ask other components, and the connection may be lost meanwhile.
        aio.spawn(self._background, self._run_hooks(), "bus-hooks")

    async def _run_hooks(self) -> None:
        for hook in self._hooks:
            try:
                await hook()
            except Exception:
                logger.exception("bus_hook_failed")


def encode(message: object) -> bytes:
    """Return a message as it goes over the wire; bytes are taken as already encoded."""
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
