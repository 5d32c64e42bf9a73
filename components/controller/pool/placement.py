"""Which DEA an instance goes to, over what the DEAs last said of themselves. Pure: no I/O, no clock.

Instances of one application are spread over zones first, over DEAs second; among equals the one with the most free
memory takes it. DEAs that leave or are lost take nothing, and what they still run does not count: it is to run elsewhere.

`place(candidates, need, count, choose) -> list[str]` decides once; `Board` keeps the DEAs in order between decisions, so
that one costs microseconds however many there are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

# Of a zone, so many equally good ones are offered: who chooses at the same moment shall not choose the same.
MOST_EQUALS = 8
# Gives one of several equally good ones; tests inject their own.
Choose = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A DEA as it stands: MB free, instances it may still take, and how many it has of each application.

    An empty `runtimes` means it did not say; it is then taken to have them all.
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
    """What one instance of an application needs; MB. An empty `runtime` needs none in particular."""

    droplet: int
    memory: int
    disk: int = 0
    runtime: str = ""


def fits(candidate: Candidate, need: Need) -> bool:
    """Say whether a DEA can take one instance."""
    return (
        candidate.usable
        and candidate.free_memory >= need.memory
        and (candidate.free_disk is None or candidate.free_disk >= need.disk)
        and candidate.free_instances >= 1
        and (not need.runtime or not candidate.runtimes or need.runtime in candidate.runtimes)
    )


def place(candidates: Iterable[Candidate], need: Need, count: int, choose: Choose) -> list[str]:
    """Choose DEAs for `count` instances of one application.

    Returns:
        a DEA's id for each instance, in order; shorter than `count` where room ends.
    """
    board = Board()
    for candidate in candidates:
        board.put(candidate)
    chosen: list[str] = []
    while len(chosen) < count and (winner := board.place(need, choose)) is not None:
        chosen.append(winner)
    return chosen


class Board:
    """DEAs in the order in which they are chosen: by zone, the most free memory first.

    What is placed counts at once; `put` says what is true.
    """

    def __init__(self) -> None:
        self._known: dict[str, Candidate] = {}
        # By zone: (-free MB, id), in order.
        self._order: dict[str, list[tuple[int, str]]] = {}
        # By application: DEA to instances, and zone to instances.
        self._here: dict[int, dict[str, int]] = {}
        self._zones: dict[int, Counter[str]] = {}

    def put(self, candidate: Candidate) -> None:
        """Take what is known of a DEA now."""
        self.remove(candidate.id)
        if not candidate.usable:
            return
        self._known[candidate.id] = candidate
        insort(self._order.setdefault(candidate.zone, []), (-candidate.free_memory, candidate.id))
        for droplet, count in candidate.droplets.items():
            self._count(droplet, candidate, count)

    def remove(self, id_: str) -> None:
        """Forget a DEA: nothing goes there, and what it runs counts no more."""
        known = self._known.pop(id_, None)
        if known is None:
            return
        self._out_of_order(known)
        for droplet, count in known.droplets.items():
            self._count(droplet, known, -count)

    def get(self, id_: str) -> Candidate:
        """Give a DEA with what has been placed on it."""
        return self._known[id_]

    def place(
        self, need: Need, choose: Choose, alive: Callable[[str], bool] = lambda _id: True
    ) -> str | None:
        """Choose a DEA for one instance, and count it there; None where there is no room.

        Args:
            need: what it needs.
            choose: picks one of the equally good ones.
            alive: asked, by id, of those that could take it.
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
        """Give the equally good best ones, by id."""
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
        """Of the DEAs that have nothing of the application, give those with the most free memory."""
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
        """Of those that have some of the application, give those with the fewest, and then the most free memory."""
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
