"""The search for open tasks that ended without a message (pure; times are arguments, of a monotonic clock)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# A task that its DEA's beats have not named for this long has ended there, and the message was lost.
UNNAMED_SECONDS = 10.0
# The patience with a lost DEA: one that restarts comes back with its tasks.
LOST_SECONDS = 45.0
# After this time, a controller that places a task has done so, or is gone.
PENDING_SECONDS = 60.0

NOT_NAMED = "its DEA no longer runs it, and how it ended is not known"
DEA_LOST = "its DEA was lost"
NEVER_STARTED = "it was not started: its controller ended meanwhile"


@dataclass(frozen=True, slots=True)
class Open:
    """An open task by its row; `pending` until a DEA has taken it, for `age` seconds so far."""

    id: str
    dea: str
    pending: bool
    age: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A DEA by its beats: the tasks that it names, and whether it is lost."""

    tasks: frozenset[str]
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """Results. `over`: task to reason. `running`: pending tasks that a DEA names. `stray`: DEA to its tasks that are not open."""

    over: dict[str, str]
    running: list[str]
    stray: dict[str, list[str]]


class TaskWatch:
    """The memory of the time since which each open task is missing on its DEA."""

    def __init__(self) -> None:
        self._missing: dict[tuple[str, str], float] = {}

    def look(self, tasks: Iterable[Open], deas: Mapping[str, Heard], now: float) -> Findings:
        """Compare the open tasks with the DEAs' beats; return the differences."""
        known = list(tasks)
        over: dict[str, str] = {}
        running: list[str] = []
        missing: dict[tuple[str, str], float] = {}
        for task in known:
            heard = deas.get(task.dea)
            if heard is not None and not heard.lost and task.id in heard.tasks:
                if task.pending:
                    running.append(task.id)
                continue
            why, patience = self._absent(task, heard)
            since = missing[task.id, why] = self._missing.get((task.id, why), now)
            # Where the wall clock was set back, the age is too small, and the observed time counts.
            if (max(task.age, now - since) if task.pending else now - since) > patience:
                over[task.id] = why
        stray: dict[str, list[str]] = {}
        wanted = {task.id for task in known}
        for dea, heard in deas.items():
            for id_ in [] if heard.lost else sorted(heard.tasks - wanted):
                since = missing[id_, dea] = self._missing.get((id_, dea), now)
                if now - since > UNNAMED_SECONDS:
                    stray.setdefault(dea, []).append(id_)
        self._missing = missing
        return Findings(over, running, stray)

    @staticmethod
    def _absent(task: Open, heard: Heard | None) -> tuple[str, float]:
        if task.pending:
            return NEVER_STARTED, PENDING_SECONDS
        if heard is None or heard.lost:
            return DEA_LOST, LOST_SECONDS
        return NOT_NAMED, UNNAMED_SECONDS
