"""Threads that clients may hold for long, and how slowly they may send (clocks and sockets are handed in)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from components.controller.errors import BusyError, SlowError

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
    """A socket as a request's parser reads it: it wants a place, and a pace, once it waits for a client.

    Args:
        source: the socket.
        clock: seconds that only go forward.
    """

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._places: Places | None = None
        self._holds = False
        self._until = 0.0

    def begin(self, places: Places | None) -> None:
        """Begin a request, whose body takes one of these places; None: nothing of it is missing, and nothing is awaited."""
        self.end()
        self._places = places
        self._until = self._clock() + (GRACE_SECONDS if places is not None else 0.0)

    def end(self) -> None:
        """End the request: give the place back, and wait for nothing more."""
        places, self._places, self._until = self._places, None, 0.0
        if self._holds and places is not None:
            self._holds = False
            places.give_back()

    def recv(self, size: int) -> bytes:
        """Read a part of the body.

        Raises:
            BusyError: too many send bodies already.
            SlowError: the body took too long.
        """
        if self._places is None:
            # The parser only makes sure that nothing of the body is left.
            raise SlowError
        if not self._holds:
            if not self._places.take():
                raise BusyError(REPEAT_SECONDS)
            self._holds = True
        left = self._until - self._clock()
        if left <= 0:
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
