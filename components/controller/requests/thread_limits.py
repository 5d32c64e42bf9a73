"""Threads that clients may hold for long, and how slowly they may send (clocks and sockets are handed in)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from components.controller.errors import SlowError

# How long a body may take: so many seconds, and then at least so many bytes in each. A modem's 128 kbit/s.
GRACE_SECONDS, LEAST_RATE = 30.0, 16 << 10
# How long a client may take for a part of its answer.
SEND_SECONDS = 30.0
# Threads for droplets that stagers deliver.
DELIVERIES = 4
# After how many seconds one for whom there was no place may ask again.
REPEAT_SECONDS = 5


class Places:
    """Places for those who hold a thread for as long as they like.

    Args:
        most: how many there are.
    """

    def __init__(self, most: int) -> None:
        self._room = threading.BoundedSemaphore(most)

    def take(self) -> bool:
        """Take a place; return whether there was one."""
        return self._room.acquire(blocking=False)

    def give_back(self) -> None:
        """Give a place back."""
        self._room.release()


@dataclass(frozen=True, slots=True)
class Held:
    """The places of one worker.

    `bodies`: of those whose bodies are read or who are sent files; `polls`: of those who wait for lines; `deliveries`: of
    stagers with their droplets, who have threads of their own.
    """

    bodies: Places
    polls: Places
    deliveries: Places

    @classmethod
    def of(cls, threads: int) -> Held:
        """Divide threads, so that a quarter of them is always for the rest."""
        return cls(Places(max(1, threads // 2)), Places(max(1, threads // 4)), Places(DELIVERIES))


class Source(Protocol):
    """What bytes are read from: a socket."""

    def recv(self, size: int, /) -> bytes:
        """Read what there is, or wait for it."""

    def settimeout(self, seconds: float, /) -> None:
        """Say how long to wait."""


class Paced:
    """A socket as a request's parser reads it: it keeps a client to a pace.

    Args:
        source: the socket.
        clock: seconds that only go forward.
    """

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._places: Places | None = None
        self._until = 0.0

    def begin(self, places: Places) -> None:
        """Begin a request whose body is awaited; one of these places is taken for it."""
        self.end()
        self._places = places
        self._until = self._clock() + GRACE_SECONDS

    def end(self) -> None:
        """End the request: give the place back, and wait for nothing more."""
        places, self._places = self._places, None
        if places is not None:
            places.give_back()

    def recv(self, size: int) -> bytes:
        """Read a part of the body.

        Raises:
            SlowError: the body took too long; or the request ended, or was there whole, and nothing is awaited.
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
