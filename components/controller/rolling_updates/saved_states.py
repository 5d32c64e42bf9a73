"""The states of applications before unproven changes, and their restoration (protocol 1.11).

A change is noted in the transaction that makes it. It is proven when the rolling update that deploys it has ended. A change
that fails before is reverted, except for values that other requests have changed since. Every function works in the
caller's transaction, which holds the application's row.
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
from components.controller.db.models import App, AppBefore, AppUpdate, UpdateState
from components.controller.services.broker import ServiceBroker
from components.controller.services.rows import Bound

# The kinds of rows: of a change that no update deploys yet, and of the open update.
CHANGE, UPDATE = "change", "update"


def rewind(now: AppSpec, before: AppSpec, after: AppSpec) -> AppSpec:
    """Return an application without a change; values that differ from the change's result come from others, and stay. Pure."""
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
    """Note a change of a running application; return the state that a reversal restores.

    Where no update deploys the previous change yet, this is the state before both.
    """
    known = session.get(AppBefore, (app.id, CHANGE))
    before = rewind(current, *_pair(known)) if known is not None else current
    session.merge(_row(app.id, CHANGE, str(target.lock_version), before, target))
    return before


def inherit(session: Session, app_id: int, replaced: AppUpdate | None, serial: str) -> None:
    """Move the saved state of a replaced update, which is unproven, to its successor."""
    row = session.get(AppBefore, (app_id, UPDATE))
    if (
        row is not None
        and replaced is not None
        and replaced.state == UpdateState.UPDATING
        and row.key == replaced.serial
    ):
        row.key = serial
    else:
        forget(session, app_id, UPDATE)


def begun(session: Session, app_id: int, serial: str) -> None:
    """Move the saved state of a change to the update that was opened to deploy it."""
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
    """Revert a failed change, or that of a failed update; return the bindings to be removed. Repetition is harmless.

    A change with a successor is left to the successor's end.
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
    """Delete saved states, because the change is proven or was given up."""
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
