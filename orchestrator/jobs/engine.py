"""The engine: takes jobs from the journal and works through their steps, each job in a thread of its own.

It may end at any moment. A begun step stays `running` in the journal, and the next engine continues from the first step
that is not done.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, Any

from prometheus_client import Counter, Histogram
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from components.common import log
from components.common.errors import IngotError
from orchestrator.db.models import DONE, FAILED
from orchestrator.errors import EngineStopping, RefusedError
from orchestrator.jobs.journal import Journal, JournalVersion, LockedError, StaleError
from orchestrator.jobs.kinds import Facts, JobKind, Step
from orchestrator.redact import Redactor
from orchestrator.services import Services

JOBS = Counter("ingot_orchestrator_jobs_total", "Jobs that ended.", ["kind", "state"])
STEP_SECONDS = Histogram(
    "ingot_orchestrator_step_seconds",
    "Duration of the steps of jobs.",
    ["kind", "step"],
    buckets=(0.1, 0.5, 1, 3, 10, 30, 60, 120, 300, 600, 1800),
)
# Jobs are taken at once when they are submitted; this interval is for those that could not be.
LOOK_SECONDS = 1.0
PRUNE_SECONDS = 3600.0
LONGEST_LINE = 2000
_PLANS = 10
logger = log.get(__name__)


class RunningJob:
    """One job at work: the `JobContext` of its steps."""

    def __init__(
        self,
        job_id: int,
        facts: Facts,
        *,
        services: Services,
        journal: Journal,
        redact: Redactor,
        stopping: threading.Event,
    ) -> None:
        self.job_id = job_id
        self.facts = facts
        self.services = services
        self.step: str | None = None
        self.redact = redact
        self._journal = journal
        self._stopping = stopping
        self._mutex = threading.Lock()

    def say(self, line: str) -> None:
        """Do the same as `JobContext.say`."""
        # Before the line is cut: half a secret would not be recognised.
        lines = [text[:LONGEST_LINE] for text in self.redact(line).splitlines() if text.strip()]
        if lines:
            with self._mutex:
                self._journal.say(self.job_id, self.step, lines)
        self.check()

    def save(self) -> None:
        """Do the same as `JobContext.save`."""
        with self._mutex:
            self._journal.save(self.job_id, self.facts)
        self.check()

    def check(self) -> None:
        """Raise EngineStopping where the orchestrator ends."""
        if self._stopping.is_set():
            raise EngineStopping


class Engine:
    """The engine of the journal's jobs.

    Args:
        services: passed to every kind and step.
        journal: the store of jobs.
        kinds: by name.
        resumable: names of the kinds whose failed jobs can be resumed.
        redactor: makes the filter that masks secrets in a job's texts; called once for each run of a job.
        guard: a file; the process that locks it is the one engine of this journal.
        parallel: number of jobs that run at once.
        keep_seconds: seconds for which jobs are kept after their end.
    """

    def __init__(
        self,
        *,
        services: Services,
        journal: Journal,
        kinds: Mapping[str, JobKind],
        resumable: Collection[str],
        redactor: Callable[[], Redactor],
        guard: Path,
        parallel: int = 4,
        keep_seconds: float = 90 * 86_400.0,
    ) -> None:
        self._services = services
        self._journal = journal
        self._kinds = kinds
        self._resumable = frozenset(resumable)
        self._redactor = redactor
        self._guard = guard
        self._parallel = parallel
        self._keep_seconds = keep_seconds
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._active: dict[int, threading.Thread] = {}
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.works = False
        """Whether this engine is the one that takes jobs."""

    def start(self) -> None:
        """Begin; jobs that an earlier process left are taken first."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """End: no further step is begun, and a running step ends at its next line of progress.

        Returns:
            Whether all have ended within so many seconds; those that have not are left to the next process.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            # It ends after the threads of its jobs.
            self._thread.join(seconds)
        with self._mutex:
            left = list(self._active)
        for job_id in left:
            logger.info("job_left_to_next_process", job=job_id)
        return not left

    def submit(
        self,
        kind: str,
        request: Mapping[str, Any],
        by: str,
        about: Collection[str] = (),
        version: JournalVersion | None = None,
    ) -> int:
        """Plan a request and queue it.

        Args:
            kind: the verb.
            request: see `kinds`.
            by: the caller.
            about: locks that the operation needs, so that it is refused before it is planned.
            version: of the journal when the request was made from its present state; None when it does not depend on that.

        Returns:
            The job's number.

        Raises:
            RefusedError: it cannot or must not begin; LockedError where another job is in the way.
            StaleError: a job ended since `version`.
        """
        for lock in about:
            self.refuse_locked(lock)
        for _ in range(_PLANS):
            before = version or self._journal.version()
            plan = self._kinds[kind].plan(self._services, request)
            try:
                job_id = self._journal.add(kind, request, plan, by, before)
            except StaleError:
                if version is not None:
                    raise
                continue
            logger.info("job_submitted", job=job_id, kind=kind, by=by, locks=sorted(plan.locks))
            self._wake.set()
            return job_id
        raise RefusedError("other jobs end faster than this one can be planned; try again", 409)

    def refuse_locked(self, lock: str) -> None:
        """Refuse where a job holds a lock, or the whole platform.

        Raises:
            LockedError: naming that job.
        """
        job_id = self._journal.holder(lock)
        job = self._journal.job(job_id) if job_id is not None else None
        if job is not None:
            raise LockedError(lock, job["id"], job["kind"])

    def resume(self, job_id: int, by: str) -> None:
        """Queue a failed job from its failed step on.

        Raises:
            RefusedError: 404 unknown; 409 where it has not failed, its kind cannot, or another job is in the way.
        """
        job = self._journal.job(job_id)
        if job is not None and job["kind"] not in self._resumable:
            raise RefusedError(
                f"a failed {job['kind']} is not resumed: its changes were undone; begin a new one",
                409,
            )
        self._journal.again(job_id)
        logger.info("job_resumed", job=job_id, by=by)
        self._journal.say(job_id, None, [f"resumed by {by}"])
        self._wake.set()

    def _run(self) -> None:
        guard = self._become_the_one()
        if guard is None:
            return
        with guard:
            self.works = True
            pruned = 0.0
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    self._take()
                    if not pruned or time.monotonic() - pruned >= PRUNE_SECONDS:
                        pruned = time.monotonic()
                        self._prune()
                except OperationalError as error:
                    logger.warning("journal_not_read", reason=str(error.orig))
                self._wake.wait(LOOK_SECONDS)
            # The guard is held until the threads no longer use the journal, or the process is gone.
            for thread in self._threads():
                thread.join()
        self.works = False

    def _prune(self) -> None:
        gone = self._journal.prune(time.time() - self._keep_seconds)
        if gone:
            logger.info("jobs_forgotten", count=gone)

    def _become_the_one(self) -> IO[str] | None:
        self._guard.parent.mkdir(parents=True, exist_ok=True)
        guard = self._guard.open("w")
        told = False
        while not self._stopping.is_set():
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    logger.warning("another_engine_works", guard=str(self._guard))
                told = True
                self._stopping.wait(LOOK_SECONDS)
            else:
                return guard
        guard.close()
        return None

    def _threads(self) -> list[threading.Thread]:
        with self._mutex:
            return list(self._active.values())

    def _take(self) -> None:
        for job_id, _state in self._journal.unended():
            with self._mutex:
                if job_id in self._active or len(self._active) >= self._parallel:
                    continue
                thread = threading.Thread(
                    target=self._work, args=(job_id,), name=f"job-{job_id}", daemon=True
                )
                self._active[job_id] = thread
            thread.start()

    def _work(self, job_id: int) -> None:
        try:
            self._job(job_id)
        except EngineStopping:
            logger.info("job_interrupted", job=job_id)
        except OperationalError as error:
            # As if the process had ended here: the job is taken again.
            logger.warning("journal_not_written", job=job_id, reason=str(error.orig))
            self._stopping.wait(LOOK_SECONDS)
        except Exception as error:
            logger.exception("job_broken", job=job_id)
            self._break_off(job_id, error)
        finally:
            with self._mutex:
                self._active.pop(job_id, None)
            self._wake.set()

    def _break_off(self, job_id: int, error: Exception) -> None:
        """End a job that the engine itself cannot continue, for example because its facts cannot be written."""
        message = self._redactor()(f"the engine failed: {type(error).__name__}: {error}")
        remedy = "Nothing was undone. The orchestrator's log has the reason; check the machines of this job before you go on."
        try:
            self._journal.end(job_id, None, message, remedy)
        except SQLAlchemyError:
            logger.exception("job_not_ended", job=job_id)
            self._stopping.wait(LOOK_SECONDS)

    def _job(self, job_id: int) -> None:
        name, facts = self._journal.begin(job_id)
        job = RunningJob(
            job_id,
            facts,
            services=self._services,
            journal=self._journal,
            redact=self._redactor(),
            stopping=self._stopping,
        )
        kind = self._kinds.get(name)
        if kind is None:
            self._end(job, name, f"this release knows no jobs of kind {name}", "roll to a release that does")
            return
        try:
            steps = list(kind.steps(self._services, job.facts))
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must end in a clear state
            self._compensate(job, kind, Step("plan", _nothing), _reason(error, job_id))
            return
        for step, known in zip(steps, self._journal.steps(job_id, steps), strict=True):
            if known.state == DONE:
                continue
            job.check()
            job.step = step.name
            why = known.message if known.state == FAILED else self._step(job, name, known.position, step)
            if why is not None:
                self._compensate(job, kind, step, why)
                return
        self._end(job, name)

    def _step(self, job: RunningJob, kind: str, position: int, step: Step) -> str | None:
        """Run a step; return the reason of its failure, or None."""
        logger.info("step_begins", job=job.job_id, step=step.name, machines=list(step.machines))
        self._journal.step_begins(job.job_id, position, job.facts)
        why = None
        try:
            step.run(job)
        except OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must end in a clear state
            why = job.redact(_reason(error, job.job_id))
        seconds = self._journal.step_ends(job.job_id, position, job.facts, why)
        STEP_SECONDS.labels(kind, step.name).observe(seconds)
        logger.info("step_ends", job=job.job_id, step=step.name, seconds=round(seconds, 1), failure=why)
        return why

    def _compensate(self, job: RunningJob, kind: JobKind, step: Step, why: str) -> None:
        try:
            remedy = kind.compensate(job, step, why)
        except OperationalError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the job must end in a clear state
            left = _reason(error, job.job_id)
            remedy = f"Cleaning up failed as well: {left}. Check the machines of this job before you go on."
        self._end(job, kind.name, f"{step.name}: {why}", remedy)

    def _end(self, job: RunningJob, kind: str, message: str = "", remedy: str | None = None) -> None:
        if remedy is not None:
            remedy = job.redact(remedy)
        message = job.redact(message)
        state = self._journal.end(job.job_id, job.facts, message, remedy)
        JOBS.labels(kind, state).inc()
        logger.info("job_ended", job=job.job_id, kind=kind, state=state, reason=message)


def _nothing(_job: object) -> None:
    """Stand in for a step that is not known."""


def _reason(error: Exception, job_id: int) -> str:
    if isinstance(error, IngotError):
        return str(error)
    logger.error("step_raised", job=job_id, exc_info=error)
    return f"{type(error).__name__}: {error}"
