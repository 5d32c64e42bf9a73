"""The next step of a rolling update (docs/decisions/0007-the-core.md). Pure: no I/O, no clock, no memory.

`next_step` takes the goal and the instances, and returns the indices to start, the instances to stop, and whether the
update is over. Any controller that continues an update, at any moment, gets the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from components.common.states import LIVE, InstanceState

# An instance must run this long before the one that it replaces may stop: by then routers know it, and a server that opens
# its port before it has loaded the application has shown whether it can.
SETTLE_SECONDS = 3.0
# A start that no DEA shows after this time was lost, or refused.
AGAIN_SECONDS = 5.0
# The bound of the difference between DEAs' clocks and the database's.
CLOCKS_DIFFER_SECONDS = 2.0


class Outcome(StrEnum):
    """The state in which a step finds its update."""

    WORKING = "working"
    REACHED = "reached"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Seen:
    """One instance, in its state since `since`; `running_for` counts the seconds for which it was seen running.

    `detail` is the reason of a crash, where it is known.
    """

    index: int
    version: str
    instance: str
    state: str
    since: float = 0.0
    running_for: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal of an update: `instances` indices of `version`, and no other version.

    `asked` has the time of the first request for each index without a running instance, `sent` that of the last; `patience`
    is the seconds in which it must come up; `no_room` has the indices that found no place. `back`: the goal is a version
    that served before. Times are seconds of one clock, `now` is the present.
    """

    version: str
    instances: int
    now: float
    patience: float
    asked: Mapping[int, float] = field(default_factory=dict)
    sent: Mapping[int, float] = field(default_factory=dict)
    no_room: frozenset[int] = frozenset()
    back: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The actions in order: stop these instances, then start these indices; `asked` is the goal's next `asked`."""

    outcome: Outcome = Outcome.WORKING
    reason: str = ""
    stop: tuple[str, ...] = ()
    start: tuple[int, ...] = ()
    asked: Mapping[int, float] = field(default_factory=dict)
    replaced: int = 0


def width(goal: Goal, proven: bool) -> int:
    """Return the number of concurrent indices: one until the new version has proven itself, then a tenth."""
    if goal.back:
        return max(1, goal.instances // 4)
    return max(1, goal.instances // 10) if proven else 1


def next_step(goal: Goal, seen: Iterable[Seen]) -> Step:
    """Return the next step.

    An index keeps its serving instance until the successor has run for a moment. An index whose instance crashes, or is not up
    in time, fails the update; on the way back it is given up instead, because there is no other version to return to.
    """
    everything = list(seen)
    live = [s for s in everything if s.state in LIVE]
    new = _by_index(s for s in live if s.version == goal.version)
    old = _by_index(s for s in live if s.version != goal.version)
    running = {i for i, here in new.items() if any(s.state == InstanceState.RUNNING for s in here)}
    crashed = {s.index: s.detail for s in everything if _counts(goal, s)}
    wanted = range(goal.instances)
    lost: dict[int, str] = {}
    for index in wanted:
        if index not in running and (reason := _trouble(goal, index, crashed, new)):
            lost[index] = reason
    if lost and not goal.back:
        return Step(Outcome.FAILED, lost[min(lost)], replaced=len(running))

    stop, settled = _stops(goal, live, new, old, lost)
    if not stop and all(index in settled or index in lost for index in wanted):
        return Step(Outcome.REACHED, lost[min(lost)] if lost else "", replaced=len(settled))

    asked = {i: at for i, at in goal.asked.items() if i in wanted and i not in running}
    asked.update({i: goal.now for i in lost if i not in asked})
    start = [
        i
        for i in asked
        if i not in new and i not in lost and goal.now - max(asked[i], goal.sent.get(i, 0)) >= AGAIN_SECONDS
    ]
    under_way = {i for i in wanted if i not in running and i not in lost and (i in asked or i in new)}
    # An instance that was not asked for must come up in time as well.
    asked.update({i: goal.now for i in under_way if i not in asked})
    settling = running & set(wanted) - settled
    room = width(goal, proven=bool(settled)) - len(under_way) - len(settling)
    todo = [i for i in wanted if i not in running and i not in under_way and i not in lost]
    # Indices without an instance come first.
    for index in sorted(todo, key=lambda i: (i in old, i))[: max(room, 0)]:
        start.append(index)
        asked[index] = goal.now
    return Step(
        stop=tuple(dict.fromkeys(stop)), start=tuple(start), asked=asked, replaced=len(running & set(wanted))
    )


def _stops(
    goal: Goal,
    live: Iterable[Seen],
    new: Mapping[int, list[Seen]],
    old: Mapping[int, list[Seen]],
    lost: Mapping[int, str],
) -> tuple[list[str], set[int]]:
    """Return the instances that may stop, and the indices whose successor has run for a moment."""
    stop = [s.instance for s in live if not 0 <= s.index < goal.instances]
    settled = set()
    for index in range(goal.instances):
        best = _best(new.get(index, []))
        if best is not None and best.state == InstanceState.RUNNING:
            stop += [s.instance for s in new[index] if s is not best]
            if best.running_for >= SETTLE_SECONDS:
                settled.add(index)
                stop += [s.instance for s in old.get(index, [])]
        elif index in lost:
            stop += [s.instance for s in (*old.get(index, []), *new.get(index, []))]
        elif goal.back:
            # An instance that does not serve is of no use.
            stop += [s.instance for s in old.get(index, []) if s.state != InstanceState.RUNNING]
    return stop, settled


def _counts(goal: Goal, seen: Seen) -> bool:
    """Return whether a crash belongs to this update; the version before may have earlier ones."""
    if seen.state != InstanceState.CRASHED or seen.version != goal.version:
        return False
    return not goal.back or (
        seen.index in goal.asked and seen.since >= goal.asked[seen.index] - CLOCKS_DIFFER_SECONDS
    )


def _trouble(goal: Goal, index: int, crashed: Mapping[int, str], new: Mapping[int, list[Seen]]) -> str:
    """Return the reason why an index does not come up; empty while it still may."""
    if index in crashed and index not in new:
        return (
            f"instance {index} crashed: {crashed[index]}" if crashed[index] else f"instance {index} crashed"
        )
    if index in goal.asked and goal.now - goal.asked[index] > goal.patience:
        if index in goal.no_room:
            return f"no machine has room for instance {index}"
        what = "is not up" if index in new else "was not started"
        return f"instance {index} {what} after {goal.patience:g} seconds"
    return ""


def _best(here: list[Seen]) -> Seen | None:
    def order(seen: Seen) -> tuple[bool, float, str]:
        return seen.state != InstanceState.RUNNING, -seen.running_for, seen.instance

    return min(here, key=order, default=None)


def _by_index(seen: Iterable[Seen]) -> dict[int, list[Seen]]:
    found: dict[int, list[Seen]] = {}
    for one in seen:
        found.setdefault(one.index, []).append(one)
    return found
