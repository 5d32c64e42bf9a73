"""Limits of the threads that clients hold for long, and of their pace (clocks and sockets are arguments)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from components.controller.errors import SlowError

# The time for a body: these seconds, and after them at least these bytes in each second, a modem's 128 kbit/s.
GRACE_SECONDS, LEAST_RATE = 30.0, 16 << 10
# The time in which a client must read a part of its answer.
SEND_SECONDS = 30.0
# Threads for droplets that stagers deliver.
DELIVERIES = 4
# The `Retry-After` for a client without a place.
REPEAT_SECONDS = 5


class Places:
    """Places for requests that may hold a thread for as long as the client likes.

    Args:
        most: the number of places.
    """

    def __init__(self, most: int) -> None:
        self._room = threading.BoundedSemaphore(most)

    def take(self) -> bool:
        """Take a place; return whether there was one."""
        return self._room.acquire(blocking=False)

    def give_back(self) -> None:
        """Release a place."""
        self._room.release()


@dataclass(frozen=True, slots=True)
class Held:
    """The places of one worker.

    `bodies`: for requests with long bodies and answers with files; `polls`: for requests that wait for lines; `deliveries`: for
    stagers with their droplets, which have threads of their own.
    """

    bodies: Places
    polls: Places
    deliveries: Places

    @classmethod
    def of(cls, threads: int) -> Held:
        """Return the places of a number of threads, so that a quarter of the threads stays for other requests."""
        return cls(Places(max(1, threads // 2)), Places(max(1, threads // 4)), Places(DELIVERIES))


class Source(Protocol):
    """A source of bytes: a socket."""

    def recv(self, size: int, /) -> bytes:
        """Return the available bytes, or wait for some."""

    def settimeout(self, seconds: float, /) -> None:
        """Set the time for which `recv` waits."""


class Paced:
    """A socket for a request's parser, which holds a client to a pace.

    Args:
        source: the socket.
        clock: returns seconds of a monotonic clock.
    """

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._places: Places | None = None
        self._until = 0.0

    def begin(self, places: Places) -> None:
        """Begin a request with a body to wait for, and take one of these places for it."""
        self.end()
        self._places = places
        self._until = self._clock() + GRACE_SECONDS

    def end(self) -> None:
        """End the request: return the place, and wait no more."""
        places, self._places = self._places, None
        if places is not None:
            places.give_back()

    def recv(self, size: int) -> bytes:
        """Return a part of the body.

        Raises:
            SlowError: the body took too long; or the request ended, or had arrived completely, so that no more is awaited.
        """
        left = self._until - self._clock()
        if self._places is None or left <= 0:
            raise SlowError
        self._source.settimeout(left)
        try:
            came = self._source.recv(size)
        except TimeoutError as error:
            raise SlowError from error
        finally:
            self._source.settimeout(SEND_SECONDS)
        self._until += len(came) / LEAST_RATE
        return came
