"""Ports of service instances, handed out in turn; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection


def next_port(
    first: int, last: int, taken: Collection[int], after: int, usable: Callable[[int], bool]
) -> int | None:
    """Return the next free port after `after`, in a ring; None where all are taken or unusable.

    In turn, and not the lowest: a client that still holds the address of a removed instance should not soon find
    another one's server there.
    """
    size = last - first + 1
    start = after + 1 - first if first <= after <= last else 0
    for step in range(size):
        port = first + (start + step) % size
        if port not in taken and usable(port):
            return port
    return None
