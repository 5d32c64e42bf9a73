"""The choice of a DEA for an instance, by the DEAs' last beats. Pure: no I/O, no clock.

Instances of one application are spread over zones first, over DEAs second; among equals the one with the most free
memory is chosen. DEAs that leave or are lost take nothing, and their instances do not count: they will run elsewhere.

`place(candidates, need, count, choose) -> list[str]` decides once; `Board` keeps the DEAs in order between decisions, so
that a decision costs microseconds for any number of DEAs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

# The number of equally good DEAs of a zone that are offered, so that concurrent controllers do not all choose the same one.
MOST_EQUALS = 8
# A function that returns one of several equally good DEAs; tests inject their own.
Choose = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A DEA's state: MB free, instances that it may still take, and its number of instances of each application.

    An empty `runtimes` means that it did not declare them; it then counts as having all.
    """

    id: str
    zone: str = "default"
    free_memory: int = 0
    free_disk: int | None = None
    free_instances: int = 1
    usable: bool = True
    runtimes: frozenset[str] = frozenset()
    droplets: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Need:
    """The needs of one instance of an application, in MB. An empty `runtime` fits any DEA."""

    droplet: int
    memory: int
    disk: int = 0
    runtime: str = ""


def fits(candidate: Candidate, need: Need) -> bool:
    """Return whether a DEA can take one instance."""
    return (
        candidate.usable
        and candidate.free_memory >= need.memory
        and (candidate.free_disk is None or candidate.free_disk >= need.disk)
        and candidate.free_instances >= 1
        and (not need.runtime or not candidate.runtimes or need.runtime in candidate.runtimes)
    )


def place(candidates: Iterable[Candidate], need: Need, count: int, choose: Choose) -> list[str]:
    """Return DEAs for `count` instances of one application.

    Returns:
        A DEA's id for each instance, in order; shorter than `count` where the room ends.
    """
    board = Board()
    for candidate in candidates:
        board.put(candidate)
    chosen: list[str] = []
    while len(chosen) < count and (winner := board.place(need, choose)) is not None:
        chosen.append(winner)
    return chosen


class Board:
    """The DEAs in the order of their choice: by zone, the most free memory first.

    A placement counts at once; `put` replaces it by the DEA's own data.
    """

    def __init__(self) -> None:
        self._known: dict[str, Candidate] = {}
        # By zone: (-free MB, id), in order.
        self._order: dict[str, list[tuple[int, str]]] = {}
        # By application: DEA to instances, and zone to instances.
        self._here: dict[int, dict[str, int]] = {}
        self._zones: dict[int, Counter[str]] = {}

    def put(self, candidate: Candidate) -> None:
        """Store the present state of a DEA."""
        self.remove(candidate.id)
        if not candidate.usable:
            return
        self._known[candidate.id] = candidate
        insort(self._order.setdefault(candidate.zone, []), (-candidate.free_memory, candidate.id))
        for droplet, count in candidate.droplets.items():
            self._count(droplet, candidate, count)

    def remove(self, id_: str) -> None:
        """Remove a DEA: it gets no instances, and its own no longer count."""
        known = self._known.pop(id_, None)
        if known is None:
            return
        self._out_of_order(known)
        for droplet, count in known.droplets.items():
            self._count(droplet, known, -count)

    def get(self, id_: str) -> Candidate:
        """Return a DEA, with the placements on it."""
        return self._known[id_]

    def place(
        self, need: Need, choose: Choose, alive: Callable[[str], bool] = lambda _id: True
    ) -> str | None:
        """Return a DEA for one instance, and count it there; None where there is no room.

        Args:
            need: of the instance.
            choose: returns one of the equally good DEAs.
            alive: called with the id of each DEA that could take it.
        """
        best = self._best(need, alive)
        if not best:
            return None
        known = self._known[choose(best)]
        self._out_of_order(known)
        left = Candidate(
            id=known.id,
            zone=known.zone,
            free_memory=known.free_memory - need.memory,
            free_disk=None if known.free_disk is None else known.free_disk - need.disk,
            free_instances=known.free_instances - 1,
            runtimes=known.runtimes,
            droplets={**known.droplets, need.droplet: known.droplets.get(need.droplet, 0) + 1},
        )
        self._known[known.id] = left
        insort(self._order.setdefault(known.zone, []), (-left.free_memory, left.id))
        self._count(need.droplet, left, 1)
        return known.id

    def _best(self, need: Need, alive: Callable[[str], bool]) -> Sequence[str]:
        """Return the ids of the equally good best DEAs."""
        zones = self._zones.get(need.droplet)
        by_count: dict[int, list[str]] = {}
        for zone in self._order:
            by_count.setdefault(zones[zone] if zones else 0, []).append(zone)
        for count in sorted(by_count):
            these = by_count[count]
            if found := self._without(need, these, alive) or self._with(need, these, alive):
                return found
        return ()

    def _without(self, need: Need, zones: Sequence[str], alive: Callable[[str], bool]) -> Sequence[str]:
        """Return the DEAs with the most free memory among those without an instance of the application."""
        here = self._here.get(need.droplet, {})
        best, found = need.memory, list[str]()
        for zone in zones:
            equals = 0
            for free, id_ in self._order[zone]:
                if -free < best or equals == MOST_EQUALS:
                    break
                if id_ in here or not fits(self._known[id_], need) or not alive(id_):
                    continue
                if -free > best:
                    best, found, equals = -free, [], 0
                found.append(id_)
                equals += 1
        return sorted(found)

    def _with(self, need: Need, zones: Sequence[str], alive: Callable[[str], bool]) -> Sequence[str]:
        """Return, among the DEAs with instances of the application, those with the fewest, and then the most free memory."""
        ranked: dict[tuple[int, int], list[str]] = {}
        for id_, count in self._here.get(need.droplet, {}).items():
            known = self._known[id_]
            if known.zone in zones and fits(known, need) and alive(id_):
                ranked.setdefault((count, -known.free_memory), []).append(id_)
        return sorted(ranked[min(ranked)]) if ranked else ()

    def _out_of_order(self, known: Candidate) -> None:
        order = self._order[known.zone]
        del order[bisect_left(order, (-known.free_memory, known.id))]
        if not order:
            del self._order[known.zone]

    def _count(self, droplet: int, known: Candidate, more: int) -> None:
        here, zones = self._here.setdefault(droplet, {}), self._zones.setdefault(droplet, Counter())
        zones[known.zone] += more
        here[known.id] = here.get(known.id, 0) + more
        if not here[known.id]:
            del here[known.id]
        if not here:
            del self._here[droplet], self._zones[droplet]
