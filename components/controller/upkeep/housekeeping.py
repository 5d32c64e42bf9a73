"""The periodic work of a worker: its share of the limits, lost tasks, and the deletion of old records."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from components.common import log
from components.common.periodic import Interval, Periodic
from components.controller.accounts import events, usage
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.workers import LOOK_SECONDS as WORKERS_SECONDS
from components.controller.db.workers import Workers
from components.controller.requests.limits import RequestLimits
from components.controller.tasks.runner import TaskRunner

LOOK_SECONDS = 2.0
PRUNE_SECONDS = 600.0
logger = log.get(__name__)


class Housekeeping:
    """A thread that adjusts a worker's share of the limits, closes lost tasks and deletes old records.

    Args:
        config: with the days for which records are kept.
        db: of the records.
        limits: of the worker; the users' limits are divided among the workers.
        workers: of all controllers, including this one.
        tasks: one-off tasks.
    """

    def __init__(
        self,
        config: ControllerConfig,
        db: Database,
        limits: RequestLimits,
        workers: Workers,
        tasks: TaskRunner,
    ) -> None:
        self._config = config
        self._db = db
        self._limits = limits
        self._workers = workers
        self._tasks = tasks
        self._looks = Interval(WORKERS_SECONDS)
        self._prunes = Interval(PRUNE_SECONDS)
        self._periodic = Periodic("upkeep", LOOK_SECONDS, self._keep, "upkeep_failed")

    def start(self) -> None:
        """Begin."""
        self._periodic.start()

    def stop(self) -> None:
        """Stop the thread after its present round."""
        self._periodic.stop()
        # Otherwise the worker counts for half a minute more.
        with contextlib.suppress(SQLAlchemyError):
            self._workers.leave()

    def _keep(self) -> None:
        now = time.monotonic()
        try:
            if self._looks.due(now):
                self._limits.rates.share(self._workers.look())
            self._tasks.sweep(now)
            if self._prunes.due(now):
                self.prune(time.time())
        except SQLAlchemyError as error:
            logger.warning("upkeep_failed", reason=type(error).__name__)

    def prune(self, now: float) -> None:
        """Delete records beyond the configured age; `now` is seconds since 1970. A failed deletion does not stop the others."""
        kinds: dict[str, Callable[[], None]] = {
            "events": lambda: events.prune(self._db, self._config.events_days, now),
            "refused": lambda: events.prune_refused(self._db),
            "usage": lambda: usage.prune(self._db, self._config.usage_days, now),
            "tasks": lambda: self._tasks.prune(now),
            "takings": self._limits.takings.prune,
        }
        for kind, forget in kinds.items():
            try:
                forget()
            except SQLAlchemyError as error:
                logger.warning("prune_failed", kind=kind, reason=type(error).__name__)
