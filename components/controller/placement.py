"""Which DEA an instance goes to: a pure function over what the DEAs last said of themselves.

Instances of one application are spread over zones first, over DEAs second; among equals the one with the most free
memory takes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

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
    pool = list(candidates)
    here = {c.id: c.droplets.get(need.droplet, 0) for c in pool}
    zones: Counter[str] = Counter()
    for candidate in pool:
        zones[candidate.zone] += here[candidate.id]
    taken: Counter[str] = Counter()
    chosen: list[str] = []
    for _ in range(count):
        open_ones = [c for c in pool if fits(_less(c, need, taken[c.id]), need)]
        if not open_ones:
            break
        ranks = {c.id: _rank(c, need, zones, here, taken) for c in open_ones}
        best = min(ranks.values())
        winner = choose(sorted(id_ for id_, rank in ranks.items() if rank == best))
        chosen.append(winner)
        taken[winner] += 1
        here[winner] += 1
        zones[next(c.zone for c in pool if c.id == winner)] += 1
    return chosen


def _rank(
    candidate: Candidate, need: Need, zones: Counter[str], here: dict[str, int], taken: Counter[str]
) -> tuple[int, int, int]:
    free = candidate.free_memory - taken[candidate.id] * need.memory
    return zones[candidate.zone], here[candidate.id], -free


def _less(candidate: Candidate, need: Need, instances: int) -> Candidate:
    if not instances:
        return candidate
    return Candidate(
        id=candidate.id,
        zone=candidate.zone,
        free_memory=candidate.free_memory - instances * need.memory,
        free_disk=None if candidate.free_disk is None else candidate.free_disk - instances * need.disk,
        free_instances=candidate.free_instances - instances,
        usable=candidate.usable,
        runtimes=candidate.runtimes,
        droplets=candidate.droplets,
    )
