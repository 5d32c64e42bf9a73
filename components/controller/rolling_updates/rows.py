"""Rolling updates as rows: opened, turned back, closed and shown (protocol 1.11; docs/decisions/0007-the-core.md).

Every function works in the caller's transaction, which holds the application's row. `runner` carries an update
on.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from components.common.states import AppState, PackageState
from components.controller.apps import revisions
from components.controller.apps import rows as app_rows
from components.controller.apps.revisions import Released
from components.controller.db.models import OPEN_UPDATES, App, AppRevision, AppUpdate, UpdateState
from components.controller.rolling_updates import saved_states


def running(session: Session, app_id: int) -> AppUpdate | None:
    """Return an application's update while it is open."""
    update = session.get(AppUpdate, app_id)
    return update if update is not None and update.open else None


def leaving(session: Session, app_ids: Collection[int]) -> dict[int, str]:
    """Return the old version of every application under a rolling update; its instances still serve."""
    query = select(AppUpdate).where(AppUpdate.app_id.in_(app_ids), AppUpdate.state.in_(OPEN_UPDATES))
    return {update.app_id: update.other for update in session.scalars(query)}


class Before:
    """The running version before an update; read before the update changes anything but the staging."""

    def __init__(self, session: Session, app: App) -> None:
        revisions.adopt(session, app)
        known = running(session, app.id)
        if known is not None and known.state == UpdateState.UPDATING:
            # An unfinished update has never proved itself: the version for the way back stays the same.
            self.version, self.revision = known.from_version, known.from_revision
            self.run_count = known.from_run_count
            return
        self.version = f"{app.started_package_hash}-{app.run_count}"
        self.revision, self.run_count = app.revision, app.run_count


def begin(session: Session, app: App, by: str, now: float) -> Released:
    """Open the update of a started application to its staged droplet."""
    before = Before(session, app)
    revision, released = revisions.begin(session, app, by)
    saved_states.begun(session, app.id, _write(session, app, by, now, before=before, to=revision))
    app_rows.touch(app)
    return released


def roll_back(session: Session, app: App, by: str, now: float, number: int | None) -> bool:
    """Return an application to an earlier revision; return True where an update was opened for it.

    Raises:
        ApiError: APP_INVALID, as from `revisions.choose`.
    """
    before = Before(session, app)
    target = revisions.choose(session, app, number)
    revisions.restore(app, target)
    app.lock_version += 1
    app_rows.touch(app)
    if app.state != AppState.STARTED:
        return False
    revisions.begin(session, app, by)
    _write(session, app, by, now, before=before, to=target)
    return True


def turn_back(session: Session, app: App, update: AppUpdate, reason: str, now: float) -> None:
    """Begin the return of an application to the version before its update."""
    before = session.get(AppRevision, (app.id, update.from_revision)) if update.from_revision else None
    failed = session.get(AppRevision, (app.id, update.to_revision)) if update.to_revision else None
    update.message, update.changed_at, update.asked = reason, now, {}
    if before is None or not before.kept:
        update.state = UpdateState.CANARY_FAILED
        return
    newer = app.package_hash if failed is not None and app.package_hash != failed.package else None
    revisions.restore(app, before)
    if newer is not None:
        # A package was uploaded meanwhile: the next start stages it.
        app.package_hash, app.package_state = newer, PackageState.PENDING
    app.run_count, app.started_package_hash = update.from_run_count, before.droplet
    update.state = UpdateState.GOING_BACK
    app_rows.touch(app)


def close(session: Session, app_id: int, reason: str, now: float) -> None:
    """Close an open update without a way back, because the application was stopped or started anew."""
    saved_states.forget(session, app_id, saved_states.CHANGE, saved_states.UPDATE)
    update = running(session, app_id)
    if update is not None:
        update.state, update.message, update.changed_at = UpdateState.CANARY_FAILED, reason, now
        update.asked, update.holder = {}, ""


def refuse(session: Session, app: App, by: str, reason: str, now: float) -> None:
    """Record an update that failed before the first start: the old instances run on."""
    before = Before(session, app)
    if running(session, app.id) is not None:
        return
    _write(session, app, by, now, before=before, to=None)
    update = session.get(AppUpdate, app.id)
    assert update is not None
    update.state, update.message = UpdateState.CANARY_FAILED, reason
    known = revisions.current(session, app)
    if known is not None and known.kept and known.package:
        revisions.restore(app, known)
    else:
        app.package_state = PackageState.PENDING


def outcome(version: str, update: AppUpdate | None) -> str | None:
    """Return the outcome of an update in the terms of clients of 2011; None where it does not concern the running `version`."""
    if update is None:
        return None
    if update.open:
        return UpdateState.UPDATING
    reached = update.to_version if update.state == UpdateState.SUCCEEDED else update.from_version
    return update.state if version == reached else None


def to_json(update: AppUpdate) -> dict[str, Any]:
    """Return the JSON of an update for `GET /v2/apps/NAME/update`, without the state."""
    return {
        "since": int(update.changed_at),
        "from": update.from_version,
        "to": update.to_version,
        "replaced": update.replaced,
        "instances": update.instances,
        "message": update.message,
    }


def _write(session: Session, app: App, by: str, now: float, *, before: Before, to: AppRevision | None) -> str:
    serial = uuid.uuid4().hex
    saved_states.inherit(session, app.id, running(session, app.id), serial)
    session.merge(
        AppUpdate(
            app_id=app.id,
            serial=serial,
            state=UpdateState.UPDATING,
            from_version=before.version,
            to_version=app.version,
            from_revision=before.revision,
            to_revision=to.number if to is not None else None,
            from_run_count=before.run_count,
            instances=app.instances,
            replaced=0,
            asked={},
            message="",
            by=by,
            holder="",
            alive_until=0.0,
            started_at=now,
            changed_at=now,
        )
    )
    session.flush()
    return serial
