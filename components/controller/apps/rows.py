"""Rows of applications: queries, changes and JSON (protocol 1.4 and 1.7)."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from components.common.states import AppState, PackageState
from components.controller.accounts.auth import Caller
from components.controller.accounts.quotas import standing
from components.controller.apps import summary
from components.controller.apps.change_plan import AppSpec, ChangeRules
from components.controller.apps.summary import AppSummary
from components.controller.config import ControllerConfig
from components.controller.db.models import DISK_QUOTA, App, Route
from components.controller.errors import ApiError, Code, no_app

_OWN = select(App).where(App.owner_id == bindparam("owner_id"), App.name == bindparam("name"))
_OWN_LOCKED = _OWN.with_for_update()
_BY_ID = select(App).where(App.id == bindparam("app_id"))
_BY_ID_LOCKED = _BY_ID.with_for_update()
_ADD_ROUTE = insert(Route).inline()


def find(session: Session, caller: Caller, name: str, *, lock: bool = False) -> App:
    """Return an application of the caller for a change; `summary.find` returns it for a view.

    Raises:
        ApiError: APP_NOT_FOUND.
    """
    query = _OWN_LOCKED if lock else _OWN
    app = session.scalars(query, {"owner_id": caller.id, "name": name}).one_or_none()
    if app is None:
        raise no_app()
    return app


def by_id(session: Session, app_id: int, *, lock: bool = False) -> App | None:
    """Return an application by its id; None where there is none, also for a number outside the column's range."""
    if not 0 < app_id < 1 << 63:
        return None
    return session.scalars(_BY_ID_LOCKED if lock else _BY_ID, {"app_id": app_id}).one_or_none()


def rules(session: Session, owner_id: int, config: ControllerConfig, app: App | None) -> ChangeRules:
    """Return the rules of an owner for a change of `app` (None: a new one)."""
    found = standing(session.connection(), config, owner_id, without=app.id if app else None)
    return ChangeRules(
        capacity=found.capacity,
        used_memory=found.memory,
        used_instances=found.instances,
        used_disk=found.disk,
        disk=app.disk_quota if app else DISK_QUOTA,
        routes=found.routes,
        registered=found.registered,
        apps=found.apps,
        admin=found.admin,
        domain=config.domain,
        platform=config.platform_hosts,
        reserved=config.admin_hosts,
        reserved_length=config.reserved_uri_length,
        allow_external=config.allow_external_uris,
        allow_debug=config.allow_debug,
    )


def spec(session: Session, app: App) -> AppSpec:
    """Return a row in the terms of `change_plan.plan`."""
    uris, services = summary.attached(session.connection(), app.id)
    return AppSpec(
        name=app.name,
        state=app.state,
        package_state=app.package_state,
        has_package=bool(app.package_hash),
        framework=app.framework,
        runtime=app.runtime,
        uris=tuple(uris),
        instances=app.instances,
        memory=app.memory,
        env=tuple(app.environment),
        details=dict(app.details),
        lock_version=app.lock_version,
        services=tuple(services),
    )


def apply(session: Session, app: App, current: AppSpec, target: AppSpec) -> None:
    """Write the differences between `current` and `target`, except the state, which `lifecycle` writes.

    Raises:
        ApiError: URI_ALREADY_TAKEN for a route that another application has.
    """
    app.framework, app.runtime = target.framework, target.runtime
    app.instances, app.memory = target.instances, target.memory
    app.environment, app.details = list(target.env), dict(target.details)
    app.package_state, app.lock_version = target.package_state, target.lock_version
    touch(app)
    if target.uris == current.uris:
        return
    # A new application gets its id.
    session.flush()
    connection = session.connection()
    gone, fresh = set(current.uris).difference(target.uris), set(target.uris).difference(current.uris)
    if gone:
        connection.execute(delete(Route).where(Route.app_id == app.id, Route.url.in_(gone)))
    # Always in the same order, so that concurrent requests for the same routes cannot deadlock.
    for url in sorted(fresh):
        try:
            connection.execute(_ADD_ROUTE, {"app_id": app.id, "url": url})
        except IntegrityError as error:
            raise ApiError(Code.URI_ALREADY_TAKEN, url) from error
    session.expire(app, ["routes"])


def put_back(session: Session, app: App, before: AppSpec) -> None:
    """Restore an application from before a failed change, except its package and its bindings.

    A route that another application has taken meanwhile stays with that application.
    """
    query = select(Route.url).where(Route.url.in_(before.uris), Route.app_id != app.id)
    taken = set(session.scalars(query))
    now = spec(session, app)
    free = tuple(uri for uri in before.uris if uri not in taken)
    apply(
        session,
        app,
        now,
        replace(before, uris=free, package_state=now.package_state, lock_version=now.lock_version),
    )
    if app.staged_package_hash and app.staged_from == built_from(app):
        app.package_state = PackageState.STAGED


def touch(app: App) -> None:
    """Set an application's time of change; it always grows, because health managers recognise changes by it."""
    app.updated_at = max(int(time.time()), (app.updated_at or 0) + 1)


def to_json(app: AppSummary, running: int | None) -> dict[str, Any]:
    """Return an application's JSON (protocol 1.7); `running` is None where the number is unknown."""
    command = {"command": app.details["command"]} if "command" in app.details else {}
    return {
        "name": app.name,
        "staging": {"model": app.framework, "stack": app.runtime or None},
        "uris": app.uris,
        "instances": app.instances,
        "runningInstances": running if app.state == AppState.STARTED else 0,
        "resources": {"memory": app.memory, "disk": app.disk_quota, "fds": app.file_descriptors},
        "state": app.state,
        "services": app.services,
        "version": app.version,
        "env": list(app.environment),
        "meta": {
            "debug": app.details.get("debug"),
            "console": app.details.get("console"),
            **{k: v for k, v in app.details.items() if k not in ("debug", "console", "command")},
            **command,
            "version": app.lock_version,
            "created": app.created_at,
        },
    }


def built_from(app: App) -> str:
    """Return a digest of all inputs of staging: the same digest means the same droplet."""
    facts: list[Any] = [app.package_hash, app.framework, app.runtime, app.details.get("command")]
    facts += sorted([b.config.alias, b.config.service.label, b.config.plan, b.name] for b in app.bindings)
    return hashlib.sha1(json.dumps(facts).encode(), usedforsecurity=False).hexdigest()


def restage_if_due(app: App, *, running: bool = False) -> None:
    """Have the next start stage an application if its services differ from those of its droplet (protocol 1.8, step 11).

    A running application stays staged: staging would also restart it, and health managers watch staged applications only.
    The check is repeated when it is stopped or, with `running`, when it is about to be restarted.
    """
    if app.state != AppState.STOPPED and not running:
        return
    if app.package_state == PackageState.STAGED and app.staged_from != built_from(app):
        app.package_state = PackageState.PENDING
