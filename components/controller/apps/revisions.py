"""Revisions: the droplets an application was started with (docs/decisions/0007-the-core.md).

A revision keeps its package beside its droplet, so that after a rollback the same code can be staged again, for
example with another service.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, exists, func, select
from sqlalchemy.orm import Session

from components.common.states import PackageState
from components.controller.apps import rows as app_rows
from components.controller.db.models import App, AppRevision, AppUpdate, Upload
from components.controller.errors import invalid_app

# The number of revisions with their droplet, and of all revisions.
KEPT, REMEMBERED = 10, 100
COMMAND = "command"
_KEPT_FILES = select(AppRevision.package, AppRevision.droplet).where(
    AppRevision.app_id == bindparam("app_id"), AppRevision.kept
)
_DELIVERED = select(Upload.droplet_hash).where(Upload.app_id == bindparam("app_id"))


@dataclass
class Released:
    """Files that a change may have left without an owner; for `references.release`."""

    packages: list[str | None] = field(default_factory=list)
    droplets: list[str | None] = field(default_factory=list)

    def add(self, package: str | None, droplet: str | None) -> None:
        """Add a package and a droplet; None adds nothing."""
        self.packages.append(package)
        self.droplets.append(droplet)


def of(session: Session, app_id: int) -> list[AppRevision]:
    """Return an application's revisions, newest first."""
    query = select(AppRevision).where(AppRevision.app_id == app_id).order_by(AppRevision.number.desc())
    return list(session.scalars(query))


def files(session: Session, app: App) -> Released:
    """Return the files of an application before its deletion: its own, its revisions', and those delivered for it."""
    released = Released([app.package_hash], [app.staged_package_hash])
    connection, ids = session.connection(), {"app_id": app.id}
    for package, droplet in connection.execute(_KEPT_FILES, ids):
        released.add(package, droplet)
    released.droplets.extend(connection.execute(_DELIVERED, ids).scalars())
    return released


def current(session: Session, app: App) -> AppRevision | None:
    """Return the revision with which an application was last started."""
    return session.get(AppRevision, (app.id, app.revision)) if app.revision is not None else None


def has_droplet(session: Session, app: App, digest: str) -> bool:
    """Return whether a droplet is an application's: its staged one, or one with which it was started."""
    kept = exists().where(AppRevision.app_id == app.id, AppRevision.droplet == digest, AppRevision.kept)
    return app.staged_package_hash == digest or bool(session.scalar(select(kept)))


def begin(session: Session, app: App, by: str) -> tuple[AppRevision, Released]:
    """Record the start of a staged application with its droplet, and set its run count (protocol 1.8).

    The application's row is locked. The run count of a droplet that has run before goes on, so that each start has its version.
    """
    droplet = app.staged_package_hash or ""
    app.run_count = _next_run_count(session, app, droplet)
    app.started_package_hash = droplet
    known = current(session, app)
    released = Released()
    if known is not None and known.droplet == droplet:
        known.run_count = app.run_count
        known.package, known.built_from = app.package_hash, app.staged_from
        return known, released
    last = session.scalar(select(func.max(AppRevision.number)).where(AppRevision.app_id == app.id)) or 0
    fresh = AppRevision(
        app_id=app.id,
        number=last + 1,
        droplet=droplet,
        package=app.package_hash,
        built_from=app.staged_from,
        framework=app.framework,
        runtime=app.runtime,
        command=app.details.get(COMMAND),
        run_count=app.run_count,
        by=by,
        created_at=int(time.time()),
        kept=True,
    )
    session.add(fresh)
    app.revision = fresh.number
    session.flush()
    _prune(session, app, released)
    return fresh, released


def restore(app: App, revision: AppRevision) -> None:
    """Restore an application's package, droplet, framework and command of a revision; the run count stays."""
    # The package of a droplet that is older than revisions is unknown.
    app.package_hash = revision.package or app.package_hash
    app.staged_package_hash, app.staged_from = revision.droplet, revision.built_from
    app.package_state = PackageState.STAGED
    app.framework, app.runtime = revision.framework, revision.runtime
    details = {k: v for k, v in app.details.items() if k != COMMAND}
    app.details = {**details, COMMAND: revision.command} if revision.command is not None else details
    app.revision = revision.number


def choose(session: Session, app: App, number: int | None) -> AppRevision:
    """Return the revision for a rollback: the one with the number, or the newest kept one before the current.

    Raises:
        ApiError: APP_INVALID when there is none, its droplet is gone, or it is the running one.
    """
    if number is None:
        before = [r for r in of(session, app.id) if r.kept and r.number < (app.revision or 0)]
        if not before:
            raise invalid_app("there is no revision before this one")
        return before[0]
    found = session.get(AppRevision, (app.id, number))
    if found is None:
        raise invalid_app(f"there is no revision {number}")
    if not found.kept:
        raise invalid_app(f"the droplet of revision {number} is not kept any more")
    if number == app.revision:
        raise invalid_app(f"revision {number} is the current one")
    return found


def to_json(app: App, rows: Iterable[AppRevision]) -> list[dict[str, Any]]:
    """Return the JSON of revisions for `GET /v2/apps/NAME/revisions`."""
    return [
        {
            "number": row.number,
            "droplet": row.droplet,
            "framework": row.framework,
            "runtime": row.runtime or None,
            "command": row.command,
            "by": row.by,
            "created": row.created_at,
            "current": row.number == app.revision,
            "available": row.kept,
        }
        for row in rows
    ]


def adopt(session: Session, app: App) -> None:
    """Add the first revision of an application that was started before there were revisions."""
    droplet = app.started_package_hash
    if app.revision is not None or not droplet:
        return
    staged = droplet == app.staged_package_hash
    session.add(
        AppRevision(
            app_id=app.id,
            number=1,
            droplet=droplet,
            package=app.package_hash if staged and app.staged_from == app_rows.built_from(app) else None,
            built_from=app.staged_from if staged else None,
            framework=app.framework,
            runtime=app.runtime,
            command=app.details.get(COMMAND),
            run_count=app.run_count,
            by=app.owner.email,
            created_at=app.updated_at,
            kept=staged,
        )
    )
    app.revision = 1
    session.flush()


def _next_run_count(session: Session, app: App, droplet: str) -> int:
    known = session.scalar(
        select(func.max(AppRevision.run_count)).where(
            AppRevision.app_id == app.id, AppRevision.droplet == droplet
        )
    )
    counts = [] if known is None else [known]
    if droplet == app.started_package_hash:
        counts.append(app.run_count)
    return max(counts) + 1 if counts else 0


def _prune(session: Session, app: App, released: Released) -> None:
    update = session.get(AppUpdate, app.id)
    spared = {app.revision}
    if update is not None and update.open:
        spared |= {update.from_revision, update.to_revision}
    rows = of(session, app.id)
    for row in [r for r in rows if r.kept][KEPT:]:
        if row.number not in spared:
            row.kept = False
            released.add(row.package, row.droplet)
    for row in rows[REMEMBERED:]:
        if not row.kept and row.number not in spared:
            session.delete(row)
