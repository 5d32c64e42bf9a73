"""An engine with a real journal in a file, and kinds small enough to read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from orchestrator.db.database import Database
from orchestrator.errors import RefusedError
from orchestrator.jobs.engine import Engine
from orchestrator.jobs.journal import Journal
from orchestrator.jobs.kinds import Facts, JobContext, JobPlan, Step
from orchestrator.redact import Redactor
from orchestrator.services import Services

SECRET = "s3cret-of-the-operator"


def until(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds:g} s: {what}")


@dataclass
class Small:
    """A kind whose request says what it locks, and whose steps are given."""

    name: str
    work: Sequence[tuple[str, Callable[[JobContext], None]]]
    gave_up: list[tuple[str, str]] = field(default_factory=list)
    remedy: str = "put right; begin again"
    on_compensate: Callable[[JobContext], None] | None = None
    on_plan: Callable[[], None] | None = None

    def plan(self, services: Services, request: Mapping[str, Any]) -> JobPlan:
        if self.on_plan is not None:
            self.on_plan()
        if request.get("impossible"):
            raise RefusedError("size: want less")
        return JobPlan({"done": []}, frozenset(request.get("locks", ())))

    def steps(self, services: Services, facts: Facts) -> Sequence[Step]:
        return [Step(name, run, ("dea3",)) for name, run in self.work]

    def compensate(self, job: JobContext, failed: Step, why: str) -> str:
        self.gave_up.append((failed.name, why))
        if self.on_compensate is not None:
            self.on_compensate(job)
        return self.remedy


def note(word: str) -> Callable[[JobContext], None]:
    """A step that leaves its word in the facts."""

    def run(job: JobContext) -> None:
        job.facts["done"].append(word)
        job.say(f"did {word}")

    return run


class Gate:
    """A step that waits until it is let through; says when somebody waits."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.runs = 0

    def __call__(self, job: JobContext) -> None:
        self.runs += 1
        self.reached.set()
        while not self.open.wait(0.01):
            job.save()


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
            services=cast("Services", None),
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
