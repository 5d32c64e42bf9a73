"""The order in which a release reaches the machines, as `playbooks/roll_machines.yml` has it. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

CANARY, ROLL = "canary", "roll"
DEFAULT_SHARE = 0.25
CONTROLLER, DEA, ORCHESTRATOR = "controller", "dea", "orchestrator"
# The tiers in their order; a machine of several is changed once, with the first of them.
TIERS = ((CONTROLLER, "stager", "health_manager"), ("router",), ("services",), (DEA,))
# The groups whose machines hold no part of a release, but which all others need.
FOUNDATION = ("nats", "ccdb")


@dataclass(frozen=True, slots=True)
class Batch:
    """Machines that are changed together; `name` is `canary` or `roll`."""

    name: str
    machines: tuple[str, ...]


def batches(groups: Mapping[str, Collection[str]], share: float = DEFAULT_SHARE) -> list[Batch]:
    """Return the batches in order: the canary, a machine at a time, DEAs in shares, the orchestrator's machine.

    Args:
        groups: of every machine, by its name; machines go in the order of their names.
        share: of the DEAs that are changed at a time, more than 0 and at most 1; one at least.
    """
    last = [name for name in sorted(groups) if ORCHESTRATOR in groups[name]]
    controllers = [name for name in sorted(groups) if CONTROLLER in groups[name]]
    # The canary is a controller's machine; the orchestrator's only where there is no other.
    canary = next((name for name in controllers if name not in last), None) or next(iter(controllers), None)
    placed = {canary} if canary else set()
    found = [Batch(CANARY, (canary,))] if canary else []
    for tier in TIERS:
        members = [
            name
            for name in sorted(groups)
            if name not in placed | set(last) and set(tier) & set(groups[name])
        ]
        placed |= set(members)
        size = max(1, math.floor(len(members) * share)) if tier == (DEA,) else 1
        found += [Batch(ROLL, tuple(members[i : i + size])) for i in range(0, len(members), size)]
    return found + [Batch(ROLL, (name,)) for name in last if name not in placed]


def foundation(groups: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Return the machines of the bus and the database."""
    return tuple(name for name in sorted(groups) if set(FOUNDATION) & set(groups[name]))


def left(machines: Sequence[str], done: Collection[str]) -> list[str]:
    """Return the machines that are still to be changed, in order."""
    return [name for name in machines if name not in done]


def standing(machines: Sequence[str], done: Collection[str], release: str) -> str:
    """Return in words how far a roll got, as the beginning of a sentence."""
    rest = left(machines, done)
    if not done:
        return f"no machine runs {release} for certain; {', '.join(rest)} are as they were, or half changed"
    reached = f"{', '.join(name for name in machines if name in done)} run {release}"
    return f"{reached}; {', '.join(rest)} do not, or not for certain" if rest else reached
