"""The planning of a pool's changes: names for new machines, and the machines that a smaller pool can lose. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from orchestrator.bus_view import Dea
from orchestrator.db.models import READY
from orchestrator.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Member:
    """A machine of a pool.

    Attributes:
        name: of the inventory.
        fixed: made by people or the lab, and never deleted.
        state: of its row; fixed ones are `ready`.
        dea: its DEA's last beat, if any.
    """

    name: str
    fixed: bool = False
    state: str = READY
    dea: Dea | None = None

    @property
    def beats(self) -> bool:
        """Return whether its DEA is heard."""
        return self.dea is not None and self.dea.fresh

    @property
    def serves(self) -> bool:
        """Return whether it takes instances."""
        return self.state == READY and self.dea is not None and self.dea.fresh and not self.dea.evacuating

    @property
    def instances(self) -> int:
        """Return the number of instances that must move when it leaves; none are known of a silent one."""
        return self.dea.instances if self.dea is not None and self.dea.fresh else 0

    @property
    def reserved(self) -> int:
        """Return the memory of its instances in MB."""
        return self.dea.reserved if self.dea is not None and self.dea.fresh else 0


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as it stands: its limits as configured, and its members."""

    name: str
    prefix: str
    floor: int
    maximum: int
    members: Sequence[Member] = field(default_factory=tuple)

    @property
    def lowest(self) -> int:
        """Return the smallest size: the floor, and never less than the fixed machines."""
        return max(self.floor, sum(m.fixed for m in self.members))


def grow(pool: Pool, count: int, taken: Collection[str]) -> list[str]:
    """Return the names of the machines that make a pool bigger.

    Args:
        pool: as it stands.
        count: how many more.
        taken: names that are in use anywhere, or leaving.

    Returns:
        The lowest free numbers behind the pool's prefix.

    Raises:
        RefusedError: the pool would be bigger than its maximum, or `count` is not positive.
    """
    _positive(count)
    size = len(pool.members)
    if size + count > pool.maximum:
        raise RefusedError(
            f"pool {pool.name} has {size} machines and may have {pool.maximum}: {count} more are too many. "
            f"Ask for {max(0, pool.maximum - size)}, or raise `maximum` in the orchestrator's configuration"
        )
    used = {m.name for m in pool.members} | set(taken)
    names: list[str] = []
    number = 1
    while len(names) < count:
        if (name := f"{pool.prefix}{number}") not in used:
            names.append(name)
        number += 1
    return names


def shrink(pool: Pool, count: int) -> list[str]:
    """Return the machines that a pool can lose, the cheapest to empty first.

    First come machines without use (failed, or not heard), then those that evacuate already, then those with the
    fewest instances, the least memory, the highest number. A machine whose instances would not fit elsewhere is passed over.

    Raises:
        RefusedError: the pool would fall below its floor, or not so many machines can be emptied.
    """
    _above_floor(pool, count)
    _heard(pool)
    chosen: list[str] = []
    passed: list[str] = []
    for member in sorted((m for m in pool.members if not m.fixed), key=_cost):
        if len(chosen) == count:
            break
        if why := occupied(pool, [member.name]) or crowded(pool, [*chosen, member.name]):
            passed.append(why)
        else:
            chosen.append(member.name)
    if len(chosen) < count:
        raise RefusedError(
            f"pool {pool.name} cannot lose {count} machines now: {'; '.join(passed) or 'the others are fixed'}. "
            "Scale applications down, or remove fewer machines",
            409,
        )
    return chosen


def without(pool: Pool, name: str) -> list[str]:
    """Check whether a pool can lose one machine; return its name.

    Raises:
        RefusedError: it is unknown or fixed, the pool would fall below its floor, or its instances fit nowhere else.
    """
    member = next((m for m in pool.members if m.name == name), None)
    if member is None:
        raise RefusedError(f"pool {pool.name} has no machine {name}: ingot pool show {pool.name}", 404)
    if member.fixed:
        raise RefusedError(
            f"{name} is a fixed machine of the inventory: the orchestrator did not make it and never deletes it",
            409,
        )
    _above_floor(pool, 1)
    _heard(pool)
    if why := occupied(pool, [name]):
        raise RefusedError(why, 409)
    if why := crowded(pool, [name]):
        raise RefusedError(f"{why}. Scale applications down, or add a machine first", 409)
    return [name]


def occupied(pool: Pool, leaving: Sequence[str]) -> str:
    """Return in words the one-off tasks that run on leaving machines; empty where there are none. They cannot be moved."""
    return "; ".join(
        f"{member.name}: {busy(member.dea.tasks)}"
        for member in pool.members
        if member.name in leaving and member.dea is not None and member.dea.fresh and member.dea.tasks
    )


def busy(tasks: Sequence[str]) -> str:
    """Return in words what to do about one-off tasks on a machine that is to leave."""
    return f"task {', '.join(tasks)} runs there; wait for its end, or end it (ingot stop-task APP TASK)"


def crowded(pool: Pool, leaving: Sequence[str]) -> str:
    """Return in words why the instances of leaving machines would not fit on the others; empty where they do.

    Beats tell the memory of all instances of a machine together, so each counts as an average one.
    """
    room = [
        [m.dea.memory - m.dea.reserved, m.dea.max_instances - m.dea.instances]
        for m in pool.members
        if m.name not in leaving and m.serves and m.dea is not None
    ]
    for member in pool.members:
        if member.name not in leaving or not member.instances:
            continue
        # Rounded up: one MB too few is too few.
        each = -(-member.reserved // member.instances)
        for _ in range(member.instances):
            place = max((r for r in room if r[0] >= each and r[1] > 0), key=lambda r: r[0], default=None)
            if place is None:
                return (
                    f"{member.name} has {member.instances} instances with {member.reserved} MB, "
                    "for which the other machines have no room"
                )
            place[0] -= each
            place[1] -= 1
    return ""


def _cost(member: Member) -> tuple[bool, bool, int, int, int]:
    evacuating = member.dea is not None and member.dea.evacuating
    number = re.search(r"\d+$", member.name)
    return (
        member.state == READY and member.beats,
        not evacuating,
        member.instances,
        member.reserved,
        -int(number[0]) if number else 0,
    )


def _positive(count: int) -> None:
    if count < 1:
        raise RefusedError(f"count: must be 1 or more, not {count}")


def _above_floor(pool: Pool, count: int) -> None:
    _positive(count)
    size = len(pool.members)
    if size - count >= pool.lowest:
        return
    fixed = sum(m.fixed for m in pool.members)
    why = (
        f"its floor is {pool.floor}"
        if pool.lowest == pool.floor
        else f"{fixed} of them are fixed and never deleted"
    )
    raise RefusedError(
        f"pool {pool.name} has {size} machines and {why}: {count} fewer are too few. "
        f"It can lose {max(0, size - pool.lowest)}"
    )


def _heard(pool: Pool) -> None:
    """Refuse where no machine is heard: the bus may be silent, and then it is unknown which machines are empty."""
    if any(m.state == READY for m in pool.members) and not any(m.beats for m in pool.members):
        raise RefusedError(
            f"no machine of pool {pool.name} is heard on the bus: nothing is removed blindly. See whether the bus answers",
            409,
        )
