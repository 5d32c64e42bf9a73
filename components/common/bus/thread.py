"""The bus for synchronous programs: an event loop in a thread of its own, and calls that wait for it.

gunicorn's workers start one after the fork; Flask's handlers then publish and ask without knowing of asyncio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from components.common import aio
from components.common.bus.client import Bus, Incoming, encode
from components.common.config import BusConfig

T = TypeVar("T")


class BusThread:
    """A `Bus` in a thread of its own. Handlers and hooks registered here run in that thread's loop."""

    def __init__(self, config: BusConfig, name: str) -> None:
        self.bus = Bus(config, name)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bus", daemon=True)
        self._sending: set[asyncio.Task[bool]] = set()

    def subscribe(
        self,
        subject: str,
        kind: type[T] | None,
        handler: Callable[[Incoming[T]], Awaitable[None]],
        queue: str = "",
    ) -> None:
        """Register a coroutine handler; call before `start`."""
        self.bus.subscribe(subject, kind, handler, queue)

    def start(self) -> None:
        """Start the thread and begin to connect; returns at once."""
        self._thread.start()
        self.run(self.bus.start())

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the bus's loop and wait for its result, at most `timeout` seconds."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the bus's loop and return at once; the future can be cancelled."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def publish(self, subject: str, message: object = None) -> bool:
        """Send a message, in the order of the calls and without waiting; return False when there is no connection."""
        self._loop.call_soon_threadsafe(self._send, subject, encode(message))
        return self.bus.connected

    def request(self, subject: str, message: object, kind: type[T], timeout: float = 2.0) -> T:
        """Do the same as `Bus.request`."""
        return self.run(self.bus.request(subject, message, kind, timeout))

    def request_many(
        self, subject: str, message: object, kind: type[T], timeout: float = 2.0, expected: int | None = None
    ) -> list[T]:
        """Do the same as `Bus.request_many`."""
        return self.run(self.bus.request_many(subject, message, kind, timeout, expected))

    def close(self) -> None:
        """Drain the bus and end the thread."""
        if not self._thread.is_alive():
            return
        self.run(self.bus.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _send(self, subject: str, message: bytes) -> None:
        aio.spawn(self._sending, self.bus.publish(subject, message), f"publish-{subject}")
