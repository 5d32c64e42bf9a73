"""The check of an owner's files on the share against the account's quota of storage."""

from __future__ import annotations

import functools
import math
from pathlib import Path

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from components.controller.accounts import quotas
from components.controller.apps.revisions import KEPT
from components.controller.config import ControllerConfig
from components.controller.db.models import App, AppRevision, Upload
from components.controller.errors import ApiError, Code
from components.controller.storage.store import Store

_OWN_APPS = select(App.id, App.package_hash, App.staged_package_hash).where(
    App.owner_id == bindparam("owner_id")
)
_OWN_REVISIONS = (
    select(AppRevision.app_id, AppRevision.package, AppRevision.droplet)
    .join(App, App.id == AppRevision.app_id)
    .where(App.owner_id == bindparam("owner_id"), AppRevision.kept)
    .order_by(AppRevision.app_id, AppRevision.number.desc())
)
_OWN_UPLOADS = (
    select(Upload.droplet_hash)
    .join(App, App.id == Upload.app_id)
    .where(App.owner_id == bindparam("owner_id"), Upload.droplet_hash.is_not(None))
)


def check_storage(
    session: Session, config: ControllerConfig, store: Store, app: App, *, new: Path, place: Path
) -> None:
    """Refuse a package or a droplet by which its owner's storage on the share would grow beyond the account's quota.

    A package replaces the application's present one, and the next start drops the oldest of ten revisions.
    A file that the owner has already counts once.

    Args:
        session: the transaction; a concurrent release of files waits for it.
        config: the platform's limits.
        store: where the files are.
        app: the application that gets the file.
        new: the finished file.
        place: its future path.

    Raises:
        ApiError: ACCOUNT_NOT_ENOUGH_STORAGE.
    """
    owner = {"owner_id": app.owner_id}
    packages: set[str | None] = set()
    droplets: set[str | None] = set(session.scalars(_OWN_UPLOADS, owner))
    for id_, package, droplet in session.execute(_OWN_APPS, owner):
        droplets.add(droplet)
        if id_ != app.id:
            packages.add(package)
    own = 0
    for id_, package, droplet in session.execute(_OWN_REVISIONS, owner):
        own += id_ == app.id
        if id_ == app.id and own >= KEPT:
            continue
        packages.add(package)
        droplets.add(droplet)
    places = {store.package(digest) for digest in packages if digest}
    places |= {store.droplet(digest) for digest in droplets if digest}
    if place in places:
        return
    replaced = (
        {store.package(app.package_hash)} if app.package_hash and place.parent == store.packages else set()
    )
    most = quotas.limits(session, config, app.owner_id, admin=app.owner.admin).storage
    size, before, kept = store.run(
        lambda: (new.stat().st_size, sum(map(_bytes_of, replaced)), sum(map(_bytes_of, places)))
    )
    if size > before and size + kept > most << 20:
        raise ApiError(Code.ACCOUNT_NOT_ENOUGH_STORAGE, math.ceil((size + kept) / (1 << 20)), most)


def _bytes_of(place: Path) -> int:
    try:
        return _size(place)
    except FileNotFoundError:
        return 0


@functools.lru_cache(maxsize=50_000)
def _size(place: Path) -> int:
    # A file with its digest as its name never changes its size.
    return place.stat().st_size
