"""Removes what killed controllers leave: stagings nobody waits for, permissions to deliver, files nobody refers to.

Nothing depends on it: a request that finds an abandoned staging takes it over by itself. It only sees to it that what
nobody repeats is not there for ever.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from components.common import log
from components.controller import files, leases, leftovers
from components.controller.apps import by_id
from components.controller.config import ControllerConfig
from components.controller.database import Database
from components.controller.models import FAILED, RUNNING, App, AppRevision, Staging, Upload
from components.controller.staging import ABANDONED_SECONDS
from components.controller.store import SHA1, Store

LEASE = "sweep"
logger = log.get(__name__)


class Sweeper:
    """Sweeps every `sweep_seconds`; of all workers of all controllers one does what is everybody's."""

    def __init__(self, config: ControllerConfig, db: Database, store: Store) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._holder = uuid.uuid4().hex
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="sweep", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ending.set()

    def _keep(self) -> None:
        while not self._ending.wait(self._config.sweep_seconds):
            try:
                self.sweep()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("sweep_failed", reason=str(error).partition("\n")[0])

    def sweep(self) -> None:
        """Sweep once."""
        gone = leftovers.clear_local(Path(self._config.temp_path))
        if gone:
            logger.info("left_overs_removed", names=gone[:20], count=len(gone))
        with self._db.session() as session:
            held = leases.take(self._db, session, LEASE, self._holder, 3 * self._config.sweep_seconds)
        if held.holder == self._holder:
            self._stagings()
            self._uploads()
            self._files()

    def _stagings(self) -> None:
        with self._db.session() as session:
            oldest = self._db.now(session) - 3 * ABANDONED_SECONDS
            query = select(Staging.app_id).where(Staging.state == RUNNING, Staging.alive_at < oldest)
            abandoned = list(session.scalars(query))
        for app_id in abandoned:
            with self._db.session() as session:
                by_id(session, app_id, lock=True)
                row = session.get(Staging, app_id)
                if row is not None and row.state == RUNNING and row.alive_at < oldest:
                    row.state, row.error = (
                        FAILED,
                        "the controller that waited for it is gone; repeat the request",
                    )
                    logger.info("staging_abandoned", app=app_id, task=row.task)

    def _uploads(self) -> None:
        """Take back permissions whose staging is over; a droplet that came for it is removed with the files."""
        with self._db.session() as session:
            oldest = self._db.now(session) - 3 * ABANDONED_SECONDS
            query = (
                select(Upload)
                .outerjoin(Staging, Staging.app_id == Upload.app_id)
                .where(Upload.created_at < oldest)
                .where((Staging.state.is_(None)) | (Staging.state != RUNNING))
            )
            for upload in session.scalars(query):
                session.delete(upload)

    def _files(self) -> None:
        """Remove files without an owner; each is looked up again, under the lock, before it goes."""
        gone = leftovers.clear_shared(self._store.scratch)
        packages, droplets = _names(self._store.packages), _names(self._store.droplets)
        with self._db.session() as session:
            packages -= _used(session, App.package_hash)
            packages -= _used(session, AppRevision.package, kept=True)
            droplets -= _used(session, App.staged_package_hash)
            droplets -= _used(session, AppRevision.droplet, kept=True)
            droplets -= _used(session, Upload.droplet_hash)
        if packages or droplets:
            files.release(self._db, self._store, packages=packages, droplets=droplets)
        if gone or packages or droplets:
            logger.info("files_removed", packages=len(packages), droplets=len(droplets), unfinished=len(gone))


def _names(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if SHA1.fullmatch(entry.name)}


def _used(session: Session, column: object, *, kept: bool = False) -> set[str]:
    query = select(column).distinct()  # type: ignore[call-overload]
    return set(session.scalars(query.where(AppRevision.kept) if kept else query))
