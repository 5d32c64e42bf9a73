"""The pace of requests: first one instance of every application, then the rest, at a limited rate. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from components.health_manager.analysis import Start, Stop

# Stops go after the starts of applications without running instances.
_STOP_PRIORITY = (0, 1, 0)
_Entry = tuple[tuple[int, int, int], int, int, "Request"]
_Key = tuple[int, str, int]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that waits its turn: a START of one index, or a STOP of instances. `last_updated` is the application's."""

    droplet: int
    last_updated: int
    start: Start | None = None
    stops: tuple[Stop, ...] = ()

    @property
    def key(self) -> _Key:
        """Return the identity of a request, which does not include `last_updated` (protocol 5.2)."""
        return (
            (self.droplet, self.start.version, self.start.index) if self.start else (self.droplet, "STOP", -1)
        )


class PaceQueue:
    """Requests by priority, handed out at a rate.

    Args:
        rate: requests per second.
        now: the time, monotonic.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._burst = max(rate / 5, 1.0)
        self._tokens = self._burst
        self._at = now
        self._starts: list[_Entry] = []
        self._stops: list[_Entry] = []
        self._waiting: dict[_Key, Request] = {}
        self._by_droplet: dict[int, set[_Key]] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def replace(
        self, droplet: int, last_updated: int, starts: Iterable[Start] = (), stops: Iterable[Stop] = ()
    ) -> None:
        """Replace all waiting requests of an application; those that are not among the new ones are dropped."""
        for key in self._by_droplet.pop(droplet, ()):
            del self._waiting[key]
        for start in starts:
            self._push(Request(droplet, last_updated, start), start.priority)
        if chosen := tuple(stops):
            self._push(Request(droplet, last_updated, stops=chosen), _STOP_PRIORITY)

    def clear(self) -> None:
        """Drop all requests."""
        self._starts.clear()
        self._stops.clear()
        self._waiting.clear()
        self._by_droplet.clear()

    def take(self, now: float, *, starts: bool = True) -> Request | None:
        """Return the next request; None when nothing waits or the rate is used up.

        Args:
            now: the time.
            starts: False while no further START may be in flight.
        """
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._burst)
        self._at = now
        if self._tokens < 1:
            return None
        heaps = [h for h in (self._starts if starts else [], self._stops) if self._prune(h)]
        if not heaps:
            return None
        request = heapq.heappop(min(heaps))[-1]
        del self._waiting[request.key]
        keys = self._by_droplet[request.droplet]
        keys.discard(request.key)
        if not keys:
            del self._by_droplet[request.droplet]
        self._tokens -= 1
        return request

    def _prune(self, heap: list[_Entry]) -> bool:
        """Drop replaced requests from the top; return whether any request is left."""
        while heap and self._waiting.get(heap[0][-1].key) is not heap[0][-1]:
            heapq.heappop(heap)
        return bool(heap)

    def _push(self, request: Request, priority: tuple[int, int, int]) -> None:
        self._waiting[request.key] = request
        self._by_droplet.setdefault(request.droplet, set()).add(request.key)
        self._count += 1
        # Of equal priority, the application goes first that has been unchanged for longest.
        heap = self._starts if request.start else self._stops
        heapq.heappush(heap, (priority, request.last_updated, self._count, request))
