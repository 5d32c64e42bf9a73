"""References to files of the share; files without one are moved into the trash.

Storing a file with its reference and removing one take the same lock, so that a digest that comes back at the moment of
its removal stays.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from components.common import log
from components.controller.db.database import Database
from components.controller.db.models import App, AppRevision, Upload
from components.controller.storage.store import Store

logger = log.get(__name__)


def lock_files(db: Database, session: Session) -> None:
    """Wait for the lock under which files and references to them change, and hold it until the transaction ends."""
    db.lock(session, "files")


def release(
    db: Database,
    store: Store,
    *,
    packages: Collection[str | None] = (),
    droplets: Collection[str | None] = (),
) -> None:
    """Move the files without a reference into the trash; after a failure, which is logged, the file stays."""
    if not any((*packages, *droplets)):
        return
    with db.session() as session:
        lock_files(db, session)
        places = [store.package(d) for d in packages if d and not _package_used(session, d)]
        places += [store.droplet(d) for d in droplets if d and not _droplet_used(session, d)]
        for place in places:
            try:
                store.remove(place)
            except OSError as error:
                logger.warning("file_not_removed", path=str(place), reason=str(error))


def take_back(
    db: Database, store: Store, *, packages: Collection[str] = (), droplets: Collection[str] = ()
) -> int:
    """Restore referenced files from the trash, as after a restoration of ccdb; return their number."""
    with db.session() as session:
        lock_files(db, session)
        places = [store.package(d) for d in packages if _package_used(session, d)]
        places += [store.droplet(d) for d in droplets if _droplet_used(session, d)]
        return sum(store.restore(place) for place in places)


def _package_used(session: Session, digest: str) -> bool:
    return bool(
        session.scalar(select(exists().where(App.package_hash == digest)))
        or session.scalar(select(exists().where(AppRevision.package == digest, AppRevision.kept)))
    )


def _droplet_used(session: Session, digest: str) -> bool:
    return bool(
        session.scalar(select(exists().where(App.staged_package_hash == digest)))
        or session.scalar(select(exists().where(Upload.droplet_hash == digest)))
        or session.scalar(select(exists().where(AppRevision.droplet == digest, AppRevision.kept)))
    )
