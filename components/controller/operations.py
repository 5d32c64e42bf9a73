"""What runs beside the applications' life in a worker: limits, reading of logs, tasks, usage, and their upkeep."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from components.common import log
from components.common.bus_thread import BusThread
from components.controller.accounts import events, usage
from components.controller.client_address import Network, networks
from components.controller.config import ControllerConfig, RateLimit
from components.controller.db import workers
from components.controller.db.database import Database
from components.controller.db.workers import Workers
from components.controller.logs.reader import LogReader
from components.controller.pool.registry import Pool
from components.controller.requests.query import Cursors
from components.controller.requests.rate_limit import Buckets, Welcome
from components.controller.requests.shared_rate_limit import HOME_SECONDS, Takings
from components.controller.requests.thread_limits import Places
from components.controller.storage.store import Store
from components.controller.tasks.runner import OneOffs

LOOK_SECONDS = 2.0
PRUNE_SECONDS = 600.0
# How often a process tells the others that somebody goes on logging in.
_SETTLED_SECONDS = 86_400.0
# Refusals of callers without a token that are written down as events: of one address, and of all.
_REFUSED, _REFUSED_ALL = RateLimit(per_minute=30, burst=30), RateLimit(per_minute=120, burst=240)
logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Operations:
    """One worker's parts.

    `rates`: of users, a part of what all workers let through; `takings`: of strangers and uploads, at all workers; `logins`: failed ones, by address and account; `doors`: failed logins and registrations, by address;
    `welcome`: logins that succeeded, by address and account; `settled`: those of them that the other workers were told; `refused`, `refused_all`: anonymous calls written down, by address and of all.
    """

    config: ControllerConfig
    db: Database
    cursors: Cursors
    rates: Buckets
    logins: Buckets
    doors: Buckets
    welcome: Welcome
    settled: Welcome
    refused: Buckets
    refused_all: Buckets
    takings: Takings
    workers: Workers
    routers: list[Network]
    reader: LogReader
    tasks: OneOffs
    usage: usage.UsageTaker
    ending: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def build(
        cls,
        config: ControllerConfig,
        db: Database,
        bus: BusThread,
        pool: Pool,
        store: Store,
        *,
        polls: Places,
    ) -> Operations:
        """Make the parts; nothing runs yet."""
        return cls(
            config=config,
            db=db,
            cursors=Cursors(config.token_keys),
            rates=Buckets(config.rate_limit),
            logins=Buckets(config.login_limit),
            doors=Buckets(config.address_limit),
            welcome=Welcome(HOME_SECONDS),
            settled=Welcome(_SETTLED_SECONDS),
            refused=Buckets(_REFUSED),
            refused_all=Buckets(_REFUSED_ALL),
            takings=Takings(db, [config.login_limit, config.address_limit, config.upload_limit]),
            workers=Workers(db),
            routers=networks(config.routers),
            reader=LogReader(bus, polls),
            tasks=OneOffs(config, db, store, bus, pool),
            usage=usage.UsageTaker(db),
        )

    def start(self) -> None:
        """Begin the upkeep."""
        thread = threading.Thread(target=self._keep, name="upkeep", daemon=True)
        self.threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End it, after the look that is being taken."""
        self.ending.set()
        for thread in self.threads:
            thread.join(timeout=5)
        # Else it counts for half a minute more.
        with contextlib.suppress(SQLAlchemyError):
            self.workers.leave()

    def _keep(self) -> None:
        pruned = looked = 0.0
        while not self.ending.wait(LOOK_SECONDS):
            now = time.monotonic()
            try:
                if not looked or now - looked >= workers.LOOK_SECONDS:
                    looked = now
                    self.rates.share(self.workers.look())
                self.tasks.sweep(now)
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
            "events": lambda: events.prune(self.db, self.config.events_days, now),
            "refused": lambda: events.prune_refused(self.db),
            "usage": lambda: usage.prune(self.db, self.config.usage_days, now),
            "tasks": lambda: self.tasks.prune(now),
            "takings": self.takings.prune,
        }
        for kind, forget in kinds.items():
            try:
                forget()
            except SQLAlchemyError as error:
                logger.warning("prune_failed", kind=kind, reason=type(error).__name__)
