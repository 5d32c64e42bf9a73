"""The removal of killed controllers' leftovers: abandoned stagings, permissions to deliver, files without a reference.

Nothing depends on it: a request that finds an abandoned staging takes it over by itself. The sweeper only removes what no
later request would replace.

The database may be the wrong one, an empty one or an old copy. Therefore files are removed only if the share carries the
database's identity, if they are a day old, and if they are fewer than a handful or few among many; and they go into a trash.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

from prometheus_client import Counter, Gauge
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from components.common import log
from components.common.periodic import Periodic
from components.controller.apps.rows import by_id
from components.controller.config import ControllerConfig
from components.controller.db import leases
from components.controller.db.database import Database
from components.controller.db.models import App, AppRevision, Staging, StagingState, Upload
from components.controller.db.models_records import Identity
from components.controller.staging.stagings import ABANDONED_SECONDS, silent
from components.controller.storage import references, resource_pool, scratch_names
from components.controller.storage.store import SHA1, TRASH, Store, keep_private

HELD = Counter(
    "ingot_controller_sweeps_held_total", "Sweeps that removed no droplet and no package, by why.", ["reason"]
)
POOL_BYTES = Gauge(
    "ingot_controller_resources_bytes",
    "Files that applications have in common, at the last look.",
    multiprocess_mode="mostrecent",
)
LEASE = "sweep"
POOL_SECONDS, SOON_SECONDS = 6 * 3600.0, 600.0
_PATIENCE = 3 * ABANDONED_SECONDS
# A younger file may belong to rows that a restored database has lost.
LEAST_AGE_SECONDS = 86_400.0
TRASH_SECONDS = 86_400.0
# A database without a reference to more than one in `ONE_OF` files counts as a wrong one. Fewer than `HANDFUL` files at once
# are no sign of that: on a small platform a single file of a killed controller is already a large part.
ONE_OF, HANDFUL = 5, 5
# A file by which an operator confirms the database, for one sweep.
ANYWAY = "anyway"
logger = log.get(__name__)


class Sweeper:
    """A thread that sweeps every `sweep_seconds`; the common part is done by one worker of all controllers."""

    def __init__(self, config: ControllerConfig, db: Database, store: Store) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._holder = uuid.uuid4().hex
        self._held = ""
        self._walked: float | None = None
        self._periodic = Periodic("sweep", config.sweep_seconds, self._keep, "sweep_failed")

    def start(self) -> None:
        """Begin."""
        self._periodic.start()

    def stop(self) -> None:
        """Stop the thread after the present removal."""
        self._periodic.stop()

    def _keep(self) -> None:
        try:
            self.sweep()
        except (SQLAlchemyError, OSError) as error:
            logger.warning("sweep_failed", reason=str(error).partition("\n")[0])

    def sweep(self) -> None:
        """Sweep once."""
        gone = scratch_names.clear_local(Path(self._config.temp_path))
        if gone:
            logger.info("left_overs_removed", names=gone[:20], count=len(gone))
        with self._db.session() as session:
            held = leases.take(self._db, session, LEASE, self._holder, 3 * self._config.sweep_seconds)
        if held.holder == self._holder:
            self._stagings()
            self._uploads()
            self._files()
            self._pool()

    def _stagings(self) -> None:
        with self._db.session() as session:
            now = self._db.now(session)
            query = select(Staging.app_id, Staging.alive_at).where(Staging.state == StagingState.RUNNING)
            abandoned = [row.app_id for row in session.execute(query) if silent(row.alive_at, now, _PATIENCE)]
        for app_id in abandoned:
            with self._db.session() as session:
                by_id(session, app_id, lock=True)
                row = session.get(Staging, app_id)
                now = self._db.now(session)
                if (
                    row is not None
                    and row.state == StagingState.RUNNING
                    and silent(row.alive_at, now, _PATIENCE)
                ):
                    row.state, row.error = (
                        StagingState.FAILED,
                        "the controller that waited for it is gone; repeat the request",
                    )
                    logger.info("staging_abandoned", app=app_id, task=row.task)

    def _uploads(self) -> None:
        """Delete permissions whose staging is over; a droplet that was delivered by one is removed with the files."""
        with self._db.session() as session:
            now = self._db.now(session)
            query = (
                select(Upload)
                .outerjoin(Staging, Staging.app_id == Upload.app_id)
                .where((Upload.created_at < now - _PATIENCE) | (Upload.created_at > now + _PATIENCE))
                .where((Staging.state.is_(None)) | (Staging.state != StagingState.RUNNING))
            )
            for upload in session.scalars(query):
                session.delete(upload)

    def _files(self) -> None:
        """Remove files without an owner; each is checked again, under the lock, before its removal."""
        now, store = self._store.now(), self._store
        gone = scratch_names.clear_shared(store.scratch, now)
        if gone:
            logger.info("unfinished_removed", count=len(gone))
        with self._db.session() as session:
            own = identity(self._db, session)
            packages = _used(session, App.package_hash) | _used(session, AppRevision.package, kept=True)
            droplets = _used(session, App.staged_package_hash) | _used(session, Upload.droplet_hash)
            droplets |= _used(session, AppRevision.droplet, kept=True)
        if store.owned_by(own) != own:
            self._hold(
                "other_database",
                f"the share is another database's; if this one is right, remove {store.owner}",
            )
            return
        back = references.take_back(
            self._db,
            store,
            packages=packages & _names(store.packages / TRASH).keys(),
            droplets=droplets & _names(store.droplets / TRASH).keys(),
        )
        if back:
            logger.warning("files_taken_back", count=back)
        # A sweep that is held back must not keep the trash for ever: its files were checked before they came into it.
        store.empty_trash(now - TRASH_SECONDS)
        there = {"packages": _names(store.packages, private=True), "droplets": _names(store.droplets)}
        going = {
            "packages": unknown(there["packages"], packages, now),
            "droplets": unknown(there["droplets"], droplets, now),
        }
        if any(too_many(len(going[kind]), len(there[kind])) for kind in there) and not self._anyway():
            counts = ", ".join(f"{len(going[kind])} of {len(there[kind])} {kind}" for kind in there)
            self._hold(
                "too_many",
                f"the database has no row for {counts}; if that is right, make the file {self._word}",
            )
            return
        self._held = ""
        if any(going.values()):
            references.release(self._db, store, **going)
            logger.info("files_removed", packages=len(going["packages"]), droplets=len(going["droplets"]))

    def _pool(self) -> None:
        """Bound the pool: every few hours, because the walk is long, and sooner on an almost full share."""
        low, now = self._store.low(), time.monotonic()
        if self._walked is not None and now - self._walked < (SOON_SECONDS if low else POOL_SECONDS):
            return
        self._walked = now
        most = self._config.resources_mb << 20
        swept = resource_pool.sweep(
            self._store.resources,
            self._store.now(),
            keep_seconds=self._config.resources_days * 86_400.0,
            # The removal of a quarter makes room for more than the next push.
            most_bytes=lambda there: min(most, there * 3 // 4) if low else most,
        )
        POOL_BYTES.set(swept.bytes)
        if swept.files:
            logger.info("resources_removed", count=swept.files, left=swept.bytes)

    @property
    def _word(self) -> Path:
        return self._store.notes / ANYWAY

    def _anyway(self) -> bool:
        try:
            self._word.unlink()
        except FileNotFoundError:
            return False
        logger.warning("sweep_confirmed")
        return True

    def _hold(self, reason: str, why: str) -> None:
        HELD.labels(reason).inc()
        if why != self._held:
            logger.warning("sweep_held", reason=why)
        self._held = why


def identity(db: Database, session: Session) -> str:
    """Return the name that identifies this database; a database without one gets one."""
    insert = postgresql.insert if db.postgresql else sqlite.insert
    session.execute(insert(Identity).values(id=1, name=uuid.uuid4().hex).on_conflict_do_nothing())
    return session.get_one(Identity, 1, populate_existing=True).name


def unknown(there: Mapping[str, float], used: Collection[str], now: float) -> set[str]:
    """Return the files without a reference that are old enough for removal; `there` is name to time of change."""
    return {name for name, at in there.items() if name not in used and now - at >= LEAST_AGE_SECONDS}


def too_many(going: int, there: int) -> bool:
    """Return whether more files would be removed than by the right database: more than a fifth, and at least a handful.

    Fewer files are no sign of a wrong database, and the trash keeps them for a day.
    """
    return going >= HANDFUL and going * ONE_OF > there


def _names(folder: Path, *, private: bool = False) -> dict[str, float]:
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if SHA1.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):
                    seen = entry.stat()
                    found[entry.name] = seen.st_mtime
                    if private:
                        keep_private(entry.path, seen.st_mode)
    return found


def _used(session: Session, column: object, *, kept: bool = False) -> set[str]:
    query = select(column).distinct()  # type: ignore[call-overload]
    return set(session.scalars(query.where(AppRevision.kept) if kept else query))
