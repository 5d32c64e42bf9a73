"""Ports and uids: numbers that are handed out in turn and rest before their next use; pure, but for `port_free`.

A port that went back rests for two prune thresholds of the routers, and time passes only while the bus is there, so
that no router that still holds an old route can meet another application behind it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable

import msgspec

from components.dea.errors import NoRoomError

# The error of a machine without IPv6.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class RingState(msgspec.Struct):
    """The saved state of a ring: its position, and the seconds that each resting number has left."""

    next: int
    resting: dict[int, float] = msgspec.field(default_factory=dict)


class Ring:
    """A ring of numbers.

    Args:
        first: the lowest.
        last: the highest.
        rest: seconds for which a returned number is kept back.
        state: of an earlier ring.
    """

    def __init__(self, first: int, last: int, rest: float = 0, state: RingState | None = None) -> None:
        self._first, self._last = first, last
        self.rest = rest
        self._taken: set[int] = set()
        known = state or RingState(first)
        self._next = known.next if first <= known.next <= last else first
        self._resting = {n: left for n, left in known.resting.items() if first <= n <= last}

    def take(self, usable: Callable[[int], bool] = lambda _number: True) -> int:
        """Hand out the next free number that is `usable`.

        Raises:
            NoRoomError: all are taken, resting or unusable.
        """
        size = self._last - self._first + 1
        for step in range(size):
            number = self._first + (self._next - self._first + step) % size
            if number not in self._taken and number not in self._resting and usable(number):
                self._taken.add(number)
                self._next = number + 1 if number < self._last else self._first
                return number
        raise NoRoomError(f"all numbers from {self._first} to {self._last} are taken or rest")

    def claim(self, numbers: Iterable[int]) -> None:
        """Mark the numbers as taken that instances found at a start hold."""
        for number in numbers:
            self._taken.add(number)
            self._resting.pop(number, None)

    def give_back(self, number: int) -> None:
        """Return a number to the ring: it rests from now on."""
        self._taken.discard(number)
        if self.rest > 0 and self._first <= number <= self._last:
            self._resting[number] = self.rest

    def advance(self, seconds: float) -> None:
        """Let time pass for resting numbers."""
        self._resting = {n: left - seconds for n, left in self._resting.items() if left > seconds}

    def state(self) -> RingState:
        """Return the state to be saved."""
        return RingState(self._next, dict(self._resting))


def port_free(port: int) -> bool:
    """Return whether a TCP port of this machine is free, on all addresses of both protocols.

    Without SO_REUSEADDR the kernel also refuses a port that is merely bound, whose holder may listen the moment it is
    handed out. No table of the kernel shows such a socket.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(("", port))
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in _NO_IPV6:
                continue
            return False
    return True
