"""The selection of the node for a new instance, from the nodes' announcements (protocol 6.5, as in 2012); pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from components.common.bus.service_messages import ServiceAnnouncement
from components.services.base.errors import INTERNAL, UNAVAILABLE, UNKNOWN_PLAN, ServiceError

# After this time without an announcement, a node is forgotten.
FORGET_SECONDS = 300.0


@dataclass(slots=True)
class _Node:
    """The record of a node: its last announcement, its time, and the number of instances requested of it."""

    announcement: ServiceAnnouncement
    at: float
    reserved: int = 0

    @property
    def unit(self) -> float:
        return self.announcement.capacity_unit or 1.0


def room(announcement: ServiceAnnouncement) -> float:
    """Return a node's remaining room: capacity in the form of 2012, else memory or storage in that of 2011."""
    for value in (
        announcement.available_capacity,
        announcement.available_memory,
        announcement.available_storage,
    ):
        if value is not None:
            return value
    return 0.0


class Nodes:
    """The nodes of one service, by their announcements.

    Args:
        service: the service's name on the bus, for messages to people.
        score: returns a node's remaining room, the more the better; not above 0 is full.
        forget_seconds: how long an announcement counts.
    """

    def __init__(
        self,
        service: str,
        score: Callable[[ServiceAnnouncement], float] = room,
        forget_seconds: float = FORGET_SECONDS,
    ) -> None:
        self._service = service
        self._score = score
        self._forget_seconds = forget_seconds
        self._nodes: dict[str, _Node] = {}

    def heard(self, announcement: ServiceAnnouncement, now: float) -> None:
        """Record an announcement; `now` is seconds of a clock that only goes forward."""
        reserved = self._nodes[announcement.id].reserved if announcement.id in self._nodes else 0
        self._nodes[announcement.id] = _Node(announcement, now, reserved)

    def known(self, now: float) -> list[str]:
        """Return the ids of the nodes that announced themselves lately."""
        self._nodes = {
            i: n for i, n in self._nodes.items() if n.reserved or now - n.at <= self._forget_seconds
        }
        return sorted(self._nodes)

    def rooms(self) -> dict[str, float]:
        """Return the room of each node, by its id."""
        return {i: self._left(n) for i, n in sorted(self._nodes.items())}

    def choose(
        self, plan: str, now: float, *, over_provision: bool = False, without: Collection[str] = ()
    ) -> str:
        """Choose the node with most room, and count the instance against it until `done`.

        Args:
            plan: a node that names no plan (one of 2011) takes any.
            now: as for `heard`.
            over_provision: take a node also when none has room.
            without: ids of nodes that failed already.

        Raises:
            ServiceError: 30600 where no node is known, 30003 where none has the plan, 30500 where all are full.
        """
        candidates = [self._nodes[i] for i in self.known(now) if i not in without]
        if not candidates:
            raise ServiceError(UNAVAILABLE, f"no node of {self._service} is there at this moment")
        fitting = [n for n in candidates if n.announcement.plan in (None, plan)]
        if not fitting:
            raise ServiceError(UNKNOWN_PLAN, f"no node of {self._service} offers the plan {plan}")
        best = max(fitting, key=lambda n: (self._left(n), n.announcement.id))
        if self._left(best) <= 0 and not over_provision:
            raise ServiceError(INTERNAL, f"the nodes of {self._service} have no room for another instance")
        best.reserved += 1
        return best.announcement.id

    def done(self, node: str) -> None:
        """End the reservation of `choose`; the node's own announcement counts the instance by now."""
        record = self._nodes.get(node)
        if record is not None:
            record.reserved = max(0, record.reserved - 1)

    def _left(self, node: _Node) -> float:
        return self._score(node.announcement) - node.unit * node.reserved
