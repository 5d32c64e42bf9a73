"""What a worker does every now and then: its part of the limits, lost tasks, and records that are old enough to be forgotten."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from components.common import log
from components.controller.accounts import events, usage
from components.controller.config import ControllerConfig
from components.controller.db import workers
from components.controller.db.database import Database
from components.controller.db.workers import Workers
from components.controller.requests.limits import RequestLimits
from components.controller.tasks.runner import TaskRunner

LOOK_SECONDS = 2.0
PRUNE_SECONDS = 600.0
logger = log.get(__name__)


class Housekeeping:
    """A thread that keeps a worker's part of the limits right, ends lost tasks and forgets old records.

    Args:
        config: says for how many days records are kept.
        db: where they are.
        limits: of which the users' buckets are shared among the workers.
        workers: those that serve, this one among them.
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
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="upkeep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End it, after the look that is being taken."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        # Else it counts for half a minute more.
        with contextlib.suppress(SQLAlchemyError):
            self._workers.leave()

    def _keep(self) -> None:
        pruned = looked = 0.0
        while not self._ending.wait(LOOK_SECONDS):
            now = time.monotonic()
            try:
                if not looked or now - looked >= workers.LOOK_SECONDS:
                    looked = now
                    self._limits.rates.share(self._workers.look())
                self._tasks.sweep(now)
                if not pruned or now - pruned >= PRUNE_SECONDS:
                    pruned = now
                    self.prune(time.time())
            except SQLAlchemyError as error:
                logger.warning("upkeep_failed", reason=type(error).__name__)
            except Exception:
                # It must not end: a task that lost its DEA would stay open for ever.
                logger.exception("upkeep_failed")

    def prune(self, now: float) -> None:
        """Forget what is older than configured; `now` is seconds since 1970. What cannot be forgotten does not keep the rest."""
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
