"""The bulk API, which health managers read (protocol 1.15)."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import func, select
from sqlalchemy.orm import joinedload

from components.controller.api.context import check_basic_auth, current_worker, insiders_only
from components.controller.db.models import App, User
from components.controller.errors import bad_request
from components.controller.rolling_updates import rows as update_rows

blueprint = Blueprint("bulk", __name__, url_prefix="/bulk")
BATCH, LARGEST_BATCH = 200, 1000


@blueprint.before_request
def guard() -> Response | None:
    """Refuse all callers but the platform's machines with the bulk password."""
    insiders_only()
    config = current_worker().config
    return check_basic_auth(config.bulk_user, config.bulk_password)


@blueprint.get("/apps")
def all_apps() -> Response:
    """Return a batch of applications, after the id in the token."""
    size, after = _page()
    with current_worker().db.session() as session:
        query = select(App).where(App.id > after).order_by(App.id).limit(size).options(joinedload(App.owner))
        found = list(session.scalars(query))
        leaving = update_rows.leaving(session, [app.id for app in found])
        rows = {str(app.id): {**to_json(app), "updating": leaving.get(app.id)} for app in found}
        last = max((int(id_) for id_ in rows), default=after)
    return jsonify({"results": rows, "bulk_token": {"id": last}})


@blueprint.get("/users")
def all_users() -> Response:
    """Return a batch of users, after the id in the token."""
    size, after = _page()
    with current_worker().db.session() as session:
        query = select(User).where(User.id > after).order_by(User.id).limit(size)
        rows = {
            str(u.id): {"id": u.id, "email": u.email, "admin": u.admin, "created_at": u.created_at}
            for u in session.scalars(query)
        }
        last = max((int(id_) for id_ in rows), default=after)
    return jsonify({"results": rows, "bulk_token": {"id": last}})


@blueprint.get("/counts")
def counts() -> Response:
    """Return the number of rows of a model."""
    models: dict[str, Any] = {"user": User, "app": App}
    asked = [m for m in request.args.get("model", "user").split(",") if m in models]
    with current_worker().db.session() as session:
        found = {m: session.scalar(select(func.count()).select_from(models[m])) for m in asked}
    return jsonify({"counts": found})


def to_json(app: App) -> dict[str, Any]:
    """Return a row with all its columns, and those beyond 2011: owner, version, last_updated."""
    return {
        "id": app.id,
        "owner_id": app.owner_id,
        "owner": app.owner.email,
        "name": app.name,
        "framework": app.framework,
        "runtime": app.runtime,
        "state": app.state,
        "instances": app.instances,
        "memory": app.memory,
        "disk_quota": app.disk_quota,
        "file_descriptors": app.file_descriptors,
        "package_state": app.package_state,
        "package_hash": app.package_hash,
        "staged_package_hash": app.staged_package_hash,
        "run_count": app.run_count,
        "lock_version": app.lock_version,
        "created_at": app.created_at,
        "updated_at": app.updated_at,
        "last_updated": app.updated_at,
        "version": app.version,
        "metadata": dict(app.details),
    }


def _page() -> tuple[int, int]:
    try:
        size = int(request.args.get("batch_size", BATCH))
    except ValueError as error:
        raise bad_request("batch_size: want a number") from error
    if size < 1:
        raise bad_request("batch_size: want 1 or more")
    try:
        token = json.loads(request.args.get("bulk_token") or "{}")
        after = int(token.get("id", 0))
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise bad_request('bulk_token: want {"id": NUMBER}') from error
    if abs(after) >= 1 << 63:
        raise bad_request("bulk_token: there is no such id")
    return min(size, LARGEST_BATCH), after
