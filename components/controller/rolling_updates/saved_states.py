"""Applications as they were before changes that have not proved themselves, and the way back (protocol 1.11).

A change is noted in the transaction that makes it. It proves itself when the rolling update that brings it has ended; what
fails before is taken back as far as no other request has changed the same since. All of it happens in the caller's
transaction, which holds the application's row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from components.controller.apps import rows as app_rows
from components.controller.apps.change_plan import AppSpec
from components.controller.db.models import UPDATING, App, AppBefore, AppUpdate
from components.controller.services.broker import ServiceBroker
from components.controller.services.rows import Bound

# Of a change that no update brings yet, and of the open update.
CHANGE, UPDATE = "change", "update"


def rewind(now: AppSpec, before: AppSpec, after: AppSpec) -> AppSpec:
    """Return an application without a change; what is not as the change has left it is another's, and stays. Pure."""
    whole = {
        name: getattr(before, name)
        for name in ("framework", "runtime", "instances", "memory", "env")
        if getattr(now, name) == getattr(after, name)
    }
    return replace(
        now,
        **whole,
        uris=_rewound(now.uris, before.uris, after.uris),
        services=_rewound(now.services, before.services, after.services),
        details=_details(now.details, before.details, after.details),
    )


def note(session: Session, app: App, current: AppSpec, target: AppSpec) -> AppSpec:
    """Note a change of an application that runs; gives what it goes back to.

    Where the change before it has not come to an update yet, that is what was before both.
    """
    known = session.get(AppBefore, (app.id, CHANGE))
    before = rewind(current, *_pair(known)) if known is not None else current
    session.merge(_row(app.id, CHANGE, str(target.lock_version), before, target))
    return before


def inherit(session: Session, app_id: int, replaced: AppUpdate | None, serial: str) -> None:
    """Hand what the open update goes back to, as it never proved itself, to the one that replaces it."""
    row = session.get(AppBefore, (app_id, UPDATE))
    if row is not None and replaced is not None and replaced.state == UPDATING and row.key == replaced.serial:
        row.key = serial
    else:
        forget(session, app_id, UPDATE)


def begun(session: Session, app_id: int, serial: str) -> None:
    """Hand what was noted of a change to the update that was opened to bring it."""
    row = session.get(AppBefore, (app_id, CHANGE))
    if row is None:
        return
    before, after = _pair(row)
    older = session.get(AppBefore, (app_id, UPDATE))
    if older is not None:
        before = rewind(before, *_pair(older))
    session.delete(row)
    session.merge(_row(app_id, UPDATE, serial, before, after))
    session.flush()


def take_back(session: Session, app: App, of: str, key: str, services: ServiceBroker) -> list[Bound]:
    """Take back a change, or an update's, that came to nothing; gives what is then to be unbound. Twice is as good as once.

    A change that another came after is left to that one's end.
    """
    row = session.get(AppBefore, (app.id, of))
    if row is None or row.key != key:
        return []
    before, after = _pair(row)
    session.delete(row)
    added = set(after.services).difference(before.services)
    gone = services.drop(session, [b for b in app.bindings if b.config.alias in added])
    app_rows.put_back(session, app, rewind(app_rows.spec(session, app), before, after))
    return gone


def forget(session: Session, app_id: int, *of: str) -> None:
    """Drop what was noted: the change has proved itself, or was given up."""
    session.execute(delete(AppBefore).where(AppBefore.app_id == app_id, AppBefore.of.in_(of)))


def _rewound(now: tuple[str, ...], before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    added, removed = set(after).difference(before), set(before).difference(after)
    return tuple(sorted(set(now).difference(added).union(removed)))


def _details(now: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    ours = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    ours = {key for key in ours if now.get(key) == after.get(key)}
    kept = {key: value for key, value in now.items() if key not in ours}
    return kept | {key: before[key] for key in ours if key in before}


def _pair(row: AppBefore) -> tuple[AppSpec, AppSpec]:
    return msgspec.convert(row.before, AppSpec), msgspec.convert(row.after, AppSpec)


def _row(app_id: int, of: str, key: str, before: AppSpec, after: AppSpec) -> AppBefore:
    pair = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return AppBefore(app_id=app_id, of=of, key=key, before=pair[0], after=pair[1])
