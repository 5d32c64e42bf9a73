"""The order in which a release reaches the machines. Pure.

The job that rolls a release imports it, and so do the playbooks: `playbooks/filter_plugins/ingot_roll.py` loads this file by its path,
in a checkout and in the plays of a release, which have a copy. So it needs nothing but the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

CANARY, ROLL = "canary", "roll"
DEFAULT_SHARE = 0.25
CONTROLLER, DEA, ORCHESTRATOR = "controller", "dea", "orchestrator"
# The groups of each tier, in the order of the tiers; a machine in several is changed once, with the first of them.
TIERS = {
    CONTROLLER: (CONTROLLER, "stager", "health_manager"),
    "router": ("router",),
    "services": ("services",),
    DEA: (DEA,),
}
# The groups whose machines hold no part of a release, but which all others need.
FOUNDATION = ("nats", "ccdb")


@dataclass(frozen=True, slots=True)
class Batch:
    """Machines that are changed together; `name` is `canary` or `roll`."""

    name: str
    machines: tuple[str, ...]


def tiers(groups: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """Return the machines that run a release, each in one tier: `canary`, those of `TIERS`, `orchestrator`, in this order.

    The canary is a machine of a controller, and that of the orchestrator only where no other has a controller. The orchestrator's machine
    is the last, as it runs the roll.

    Args:
        groups: of every machine, by its name; machines of a tier go in the order of their names.
    """
    names = sorted(groups)
    last = [name for name in names if ORCHESTRATOR in groups[name]]
    controllers = [name for name in names if CONTROLLER in groups[name]]
    canary = next((name for name in controllers if name not in last), None) or next(iter(controllers), None)
    found: dict[str, tuple[str, ...]] = {CANARY: (canary,) if canary else ()}
    placed = {*found[CANARY], *last}
    for tier, members in TIERS.items():
        found[tier] = tuple(name for name in names if name not in placed and set(members) & set(groups[name]))
        placed |= set(found[tier])
    return {**found, ORCHESTRATOR: tuple(name for name in last if name != canary)}


def size(machines: Collection[str], share: float = DEFAULT_SHARE) -> int:
    """Return how many of the DEAs' tier are changed at a time.

    Args:
        machines: of the tier.
        share: of them, more than 0 and at most 1; the result is one at least.
    """
    return max(1, math.floor(len(machines) * share))


def batches(groups: Mapping[str, Collection[str]], share: float = DEFAULT_SHARE) -> list[Batch]:
    """Return the machines that are changed together, in order: the canary, a machine at a time, DEAs in shares.

    Args:
        groups: see `tiers`.
        share: see `size`.
    """
    found = []
    for tier, machines in tiers(groups).items():
        step = size(machines, share) if tier == DEA else 1
        name = CANARY if tier == CANARY else ROLL
        found += [Batch(name, machines[i : i + step]) for i in range(0, len(machines), step)]
    return found


def foundation(groups: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """Return the machines of the bus and the database."""
    return tuple(name for name in sorted(groups) if set(FOUNDATION) & set(groups[name]))


def left(machines: Sequence[str], done: Collection[str]) -> list[str]:
    """Return the machines that are still to be changed, in order."""
    return [name for name in machines if name not in done]


def standing(machines: Sequence[str], done: Collection[str], release: str) -> str:
    """Return how far a roll got, as the beginning of a sentence."""
    rest = left(machines, done)
    if not done:
        return f"no machine runs {release} for certain; {', '.join(rest)} are as they were, or half changed"
    reached = f"{', '.join(name for name in machines if name in done)} run {release}"
    return f"{reached}; {', '.join(rest)} do not, or not for certain" if rest else reached
