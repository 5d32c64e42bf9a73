"""The journal of jobs: every read and every write of jobs, steps, progress lines and locks.

One orchestrator writes it. A job and its locks are one transaction, and so are its end and their release.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from orchestrator.db.database import Database
from orchestrator.db.models import DONE, FAILED, RUNNING, SUCCEEDED, WAITING, Job, Line, Lock
from orchestrator.db.models import Step as StepRow
from orchestrator.errors import RefusedError
from orchestrator.jobs.kinds import PLATFORM, Facts, JobPlan, Step

# The largest numbers of ended jobs, of a job's lines, and of a line's letters.
MOST_JOBS, MOST_LINES, MOST_LETTERS = 5000, 20_000, 10_000
_JOBS_AT_ONCE = 100
# The name of the lock at which PostgreSQL's writers of locks queue up.
_LOCKS = "locks"
JournalVersion = tuple[int, float]


class LockedError(RefusedError):
    """Another job, whose number is `job`, holds a lock that the operation needs."""

    def __init__(self, lock: str, job: int, kind: str) -> None:
        what = "the whole platform" if lock == PLATFORM else lock.replace(":", " ")
        super().__init__(f"job {job} ({kind}) works on {what}; wait for it: ingot jobs show {job}", 409)
        self.job = job


class StaleError(Exception):
    """A job ended while a request was being planned: the plan may not hold any more."""


@dataclass(frozen=True, slots=True)
class Known:
    """The journal's record of a step: its position, name, state and message."""

    position: int
    name: str
    state: str
    message: str


class Journal:
    """The journal.

    Args:
        db: its database.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def version(self) -> JournalVersion:
        """Return a version that changes whenever a job ends or is resumed: a plan holds as long as it stays the same."""
        with self._db.session() as session:
            return _version(session)

    def add(
        self, kind: str, request: Mapping[str, Any], plan: JobPlan, by: str, version: JournalVersion
    ) -> int:
        """Write a waiting job and take its locks.

        Args:
            kind: its verb.
            request: see `kinds`.
            plan: from the kind.
            by: the caller.
            version: `version()` as it was before the plan was made.

        Returns:
            The job's number.

        Raises:
            LockedError: another job holds one of the locks.
            StaleError: the plan must be made again.
        """
        now = time.time()
        with self._db.session() as session:
            self._db.lock(session, _LOCKS)
            if _version(session) != version:
                raise StaleError
            _refuse_locked(session, plan.locks)
            locks = sorted(plan.locks)
            job = Job(kind=kind, wish=dict(request), facts=dict(plan.facts), by=by, created=now, locks=locks)
            session.add(job)
            session.flush()
            session.add_all(Lock(name=name, job_id=job.id) for name in locks)
            return job.id

    def again(self, job_id: int) -> None:
        """Queue a failed job again, with its locks, from its failed step on.

        Raises:
            RefusedError: 404 for an unknown one; 409 for one that has not failed, whose locks are held, or that is out of
                date because a later job worked on the same.
        """
        with self._db.session() as session:
            self._db.lock(session, _LOCKS)
            job = session.get(Job, job_id)
            if job is None:
                raise RefusedError(f"there is no job {job_id}", 404)
            if job.state != FAILED:
                raise RefusedError(f"job {job_id} is {job.state}; only a failed one can be resumed", 409)
            _refuse_locked(session, job.locks)
            for later in session.scalars(select(Job).where(Job.id > job_id).order_by(Job.id.desc())):
                if collides(job.locks, later.locks):
                    raise RefusedError(
                        f"job {later.id} ({later.kind}) has worked on the same since; begin a new operation",
                        409,
                    )
            session.add_all(Lock(name=name, job_id=job_id) for name in job.locks)
            job.state, job.message, job.way_out = WAITING, "", ""
            job.started = job.ended = None
            for step in job.steps:
                if step.state == FAILED:
                    step.state, step.message = WAITING, ""
                    step.started = step.ended = None

    def unended(self) -> list[tuple[int, str]]:
        """Return number and state of the jobs that wait or run, oldest first."""
        with self._db.session() as session:
            rows = session.execute(
                select(Job.id, Job.state).where(Job.state.in_((WAITING, RUNNING))).order_by(Job.id)
            )
            return [(row.id, row.state) for row in rows]

    def begin(self, job_id: int) -> tuple[str, Facts]:
        """Record that a job runs; return its kind and its facts."""
        with self._db.session() as session:
            job = session.get_one(Job, job_id)
            job.state = RUNNING
            job.started = job.started or time.time()
            return job.kind, dict(job.facts)

    def steps(self, job_id: int, steps: Sequence[Step]) -> list[Known]:
        """Record a job's steps, and return their records.

        Steps recorded before keep their state, found by name and machines: a newer release may have other steps
        for a job that an older one began.
        """
        with self._db.session() as session:
            job = session.get_one(Job, job_id)
            wanted = [(step.name, list(step.machines)) for step in steps]
            if [(row.name, row.machines) for row in job.steps] != wanted:
                kept = list(job.steps)
                fresh = [_adopt(kept, job_id, n, name, machines) for n, (name, machines) in enumerate(wanted)]
                session.execute(delete(StepRow).where(StepRow.job_id == job_id))
                session.expunge_all()
                session.add_all(fresh)
                rows: Iterable[StepRow] = fresh
            else:
                rows = job.steps
            return [Known(row.position, row.name, row.state, row.message) for row in rows]

    def step_begins(self, job_id: int, position: int, facts: Facts) -> None:
        """Record that a step runs; one that ran before keeps the time of its beginning."""
        with self._db.session() as session:
            session.get_one(Job, job_id).facts = dict(facts)
            row = session.get_one(StepRow, (job_id, position))
            row.state = RUNNING
            row.started = row.started or time.time()

    def step_ends(self, job_id: int, position: int, facts: Facts, failure: str | None = None) -> float:
        """Record that a step is done, or the reason of its failure; return the seconds it took."""
        with self._db.session() as session:
            session.get_one(Job, job_id).facts = dict(facts)
            row = session.get_one(StepRow, (job_id, position))
            row.state = DONE if failure is None else FAILED
            row.message = failure or ""
            row.ended = time.time()
            return row.ended - (row.started or row.ended)

    def save(self, job_id: int, facts: Facts) -> None:
        """Write a job's facts."""
        with self._db.session() as session:
            session.get_one(Job, job_id).facts = dict(facts)

    def say(self, job_id: int, step: str | None, lines: Collection[str]) -> None:
        """Add lines of progress; one thread at a time for one job."""
        now = time.time()
        with self._db.session() as session:
            last = session.scalar(select(func.max(Line.n)).where(Line.job_id == job_id)) or 0
            session.add_all(
                Line(job_id=job_id, n=last + i, at=now, step=step, text=text[:MOST_LETTERS])
                for i, text in enumerate(lines, 1)
            )
            if last + len(lines) > MOST_LINES:
                # The oldest lines go: the result of a job is in the newest.
                over = last + len(lines) - MOST_LINES
                session.execute(delete(Line).where(Line.job_id == job_id, Line.n <= over))

    def end(self, job_id: int, facts: Facts | None, message: str = "", remedy: str | None = None) -> str:
        """Record the end of a job and free its locks: failed where a remedy is given, else succeeded.

        Without facts, the ones written last are kept.
        """
        with self._db.session() as session:
            job = session.get_one(Job, job_id)
            if facts is not None:
                job.facts = dict(facts)
            job.state = SUCCEEDED if remedy is None else FAILED
            job.message, job.way_out, job.ended = message, remedy or "", time.time()
            session.execute(delete(Lock).where(Lock.job_id == job_id))
            return job.state

    def prune(self, before: float) -> int:
        """Forget jobs that ended before that time, and those beyond `MOST_JOBS`, with their steps and lines; return how many.

        Jobs that wait or run stay, however old they are. A job is removed after its dependents, and a few at a time, so that
        each statement ends in its time however large the journal has become.
        """
        ended = select(Job.id).where(Job.state.in_((SUCCEEDED, FAILED)))
        count = 0
        while True:
            with self._db.session() as session:
                newest = session.scalar(ended.order_by(Job.id.desc()).offset(MOST_JOBS - 1).limit(1))
                old = (Job.ended < before) | (Job.id < (newest or 0))
                some = list(session.scalars(ended.where(old).order_by(Job.id).limit(_JOBS_AT_ONCE)))
            if not some:
                return count
            for row in (Line, StepRow):
                self._db.prune(row, row.job_id.in_(some))
            count += self._db.prune(Job, Job.id.in_(some), Job.state.in_((SUCCEEDED, FAILED)))

    def job(self, job_id: int) -> dict[str, Any] | None:
        """Return a job with its steps as the API shows it (docs/platform.md), or None."""
        with self._db.session() as session:
            job = session.get(Job, job_id)
            return None if job is None else {**_job(job), "steps": [_step(row) for row in job.steps]}

    def jobs(self, limit: int, state: str | None = None) -> list[dict[str, Any]]:
        """Return the newest jobs without their steps, newest first."""
        query = select(Job).order_by(Job.id.desc()).limit(limit)
        if state is not None:
            query = query.where(Job.state == state)
        with self._db.session() as session:
            return [_job(job) for job in session.scalars(query)]

    def lines(self, job_id: int, after: int) -> dict[str, Any] | None:
        """Return a job's state and its lines after the given one as the API shows them, or None for an unknown job."""
        with self._db.session() as session:
            job = session.get(Job, job_id)
            if job is None:
                return None
            rows = session.scalars(select(Line).where(Line.job_id == job_id, Line.n > after).order_by(Line.n))
            lines = [{"n": row.n, "at": row.at, "step": row.step, "text": row.text} for row in rows]
            return {"lines": lines, "state": job.state}

    def holder(self, lock: str) -> int | None:
        """Return the job that holds a lock, or the whole platform."""
        with self._db.session() as session:
            return session.scalar(select(Lock.job_id).where(Lock.name.in_((lock, PLATFORM))).limit(1))

    def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        with self._db.session() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
            return {row[0]: row[1] for row in rows}


def collides(some: Collection[str], others: Collection[str]) -> bool:
    """Return whether two sets of locks cannot be held at once."""
    if not some or not others:
        return False
    return PLATFORM in some or PLATFORM in others or not set(some).isdisjoint(others)


def _version(session: Session) -> JournalVersion:
    count, last = session.execute(select(func.count(Job.ended), func.max(Job.ended))).one()
    return count, last or 0.0


def _refuse_locked(session: Session, wanted: Collection[str]) -> None:
    for lock in session.scalars(select(Lock).order_by(Lock.name)):
        if collides(wanted, (lock.name,)):
            raise LockedError(lock.name, lock.job_id, session.get_one(Job, lock.job_id).kind)


def _adopt(kept: list[StepRow], job_id: int, position: int, name: str, machines: list[str]) -> StepRow:
    fresh = StepRow(job_id=job_id, position=position, name=name, machines=machines, state=WAITING, message="")
    for row in kept:
        if (row.name, row.machines) == (name, machines):
            kept.remove(row)
            fresh.state, fresh.message = row.state, row.message
            fresh.started, fresh.ended = row.started, row.ended
            break
    return fresh


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "wish": job.wish,
        "state": job.state,
        "by": job.by,
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "seconds": _seconds(job.started, job.ended),
        "message": job.message,
        "way_out": job.way_out,
    }


def _step(row: StepRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "machines": row.machines,
        "state": row.state,
        "started": row.started,
        "seconds": _seconds(row.started, row.ended),
        "message": row.message,
    }


def _seconds(started: float | None, ended: float | None) -> float | None:
    return None if started is None else round((ended or time.time()) - started, 3)
