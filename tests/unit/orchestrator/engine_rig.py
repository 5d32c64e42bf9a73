"""An engine with a real journal in a file, and kinds small enough to read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from orchestrator.database import Database
from orchestrator.jobs.engine import Engine
from orchestrator.jobs.journal import Journal
from orchestrator.jobs.kinds import Doing, Facts, Planned, RefusedError, Step
from orchestrator.redact import Redactor
from orchestrator.tools import Tools
from tests.support.waiting import until

SECRET = "s3cret-of-the-operator"


@dataclass
class Small:
    """A kind whose wish says what it locks, and whose steps are given."""

    name: str
    work: Sequence[tuple[str, Callable[[Doing], None]]]
    gave_up: list[tuple[str, str]] = field(default_factory=list)
    way_out: str = "put right; begin again"
    on_give_up: Callable[[Doing], None] | None = None
    on_plan: Callable[[], None] | None = None

    def plan(self, tools: Tools, wish: Mapping[str, Any]) -> Planned:
        if self.on_plan is not None:
            self.on_plan()
        if wish.get("impossible"):
            raise RefusedError("size: want less")
        return Planned({"done": []}, frozenset(wish.get("locks", ())))

    def steps(self, tools: Tools, facts: Facts) -> Sequence[Step]:
        return [Step(name, run, ("dea3",)) for name, run in self.work]

    def give_up(self, doing: Doing, failed: Step, why: str) -> str:
        self.gave_up.append((failed.name, why))
        if self.on_give_up is not None:
            self.on_give_up(doing)
        return self.way_out


def note(word: str) -> Callable[[Doing], None]:
    """A step that leaves its word in the facts."""

    def run(doing: Doing) -> None:
        doing.facts["done"].append(word)
        doing.say(f"did {word}")

    return run


class Gate:
    """A step that waits until it is let through; says when somebody waits."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.runs = 0

    def __call__(self, doing: Doing) -> None:
        self.runs += 1
        self.reached.set()
        while not self.open.wait(0.01):
            doing.save()


class World:
    """A database in a file; engines come and go."""

    def __init__(self, folder: Path, *kinds: Any, resumable: Sequence[str] = ()) -> None:
        self.folder = folder
        self.db = Database(f"sqlite:///{folder / 'orchestrator.db'}")
        self.db.migrate()
        self.journal = Journal(self.db)
        self.kinds = {kind.name: kind for kind in kinds}
        self.resumable = resumable
        self.engines: list[Engine] = []

    def engine(self, *, start: bool = True, parallel: int = 4) -> Engine:
        engine = Engine(
            tools=cast("Tools", None),
            journal=self.journal,
            kinds=self.kinds,
            resumable=self.resumable,
            redactor=lambda: Redactor([SECRET]),
            guard=self.folder / "engine.lock",
            parallel=parallel,
        )
        self.engines.append(engine)
        if start:
            engine.start()
        return engine

    def job(self, job_id: int) -> dict[str, Any]:
        job = self.journal.job(job_id)
        assert job is not None
        return job

    def ended(self, job_id: int) -> dict[str, Any]:
        until(lambda: self.job(job_id)["state"] in ("succeeded", "failed"), f"job {job_id} ends")
        return self.job(job_id)

    def states(self, job_id: int) -> list[str]:
        return [step["state"] for step in self.job(job_id)["steps"]]

    def lines(self, job_id: int) -> list[str]:
        found = self.journal.lines(job_id, 0)
        assert found is not None
        return [line["text"] for line in found["lines"]]

    def close(self) -> None:
        for engine in self.engines:
            engine.stop(5)
        self.db.close()
