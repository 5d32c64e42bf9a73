"""Which open tasks are over although nobody said so (pure; times are handed in, of a clock that only goes forward)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# A task that its DEA's beats have not named for so long has ended there, and the word of it was lost.
UNNAMED_SECONDS = 10.0
# A DEA that restarts is away for a while and comes back with its tasks.
LOST_SECONDS = 45.0
# A controller that places a task has done so, or is gone.
PENDING_SECONDS = 60.0

NOT_NAMED = "its DEA no longer runs it, and how it ended is not known"
DEA_LOST = "its DEA was lost"
NEVER_STARTED = "it was not started: its controller ended meanwhile"


@dataclass(frozen=True, slots=True)
class Open:
    """An open task as its row says; `pending` until a DEA has taken it, for `age` seconds so far."""

    id: str
    dea: str
    pending: bool
    age: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A DEA as its beats say: the tasks it names, and whether it is lost."""

    tasks: frozenset[str]
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """`over`: task to why. `running`: pending ones that a DEA names. `stray`: DEA to what it names and nobody wants."""

    over: dict[str, str]
    running: list[str]
    stray: dict[str, list[str]]


class TaskWatch:
    """Remembers since when each open task has not been seen where it should be."""

    def __init__(self) -> None:
        self._missing: dict[tuple[str, str], float] = {}

    def look(self, tasks: Iterable[Open], deas: Mapping[str, Heard], now: float) -> Findings:
        """Compare what should run with what the DEAs say."""
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
            # Where the wall clock was set back, the age says less than what was seen.
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
