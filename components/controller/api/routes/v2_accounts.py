"""Routes of accounts beyond 2011: their list, their quotas, and the revocation of their tokens (docs/platform.md)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import select
from sqlalchemy.orm import Session

from components.controller.accounts import quotas
from components.controller.accounts.auth import find_user, void_tokens
from components.controller.api.context import (
    current_worker,
    empty_response,
    json_object,
    require_admin,
    require_user,
)
from components.controller.db.models import User
from components.controller.errors import ApiError, Code, bad_request, denied
from components.controller.requests.query import LARGEST_PAGE, PAGE, Query

blueprint = Blueprint("v2_accounts", __name__, url_prefix="/v2/users")
_KIND = "users"


@blueprint.get("")
def listing() -> Response:
    """List the accounts with their quotas and usage, for administrators."""
    require_admin()
    cursors = current_worker().cursors
    query = Query(request.args, ("limit", "after"))
    limit = query.number("limit", PAGE, 1, LARGEST_PAGE)
    after = query.cursor("after", cursors, _KIND)
    if after is not None and not isinstance(after, str):
        raise bad_request("after: this is not a cursor of this listing")
    with current_worker().db.session() as session:
        people = select(User).order_by(User.email).limit(limit + 1)
        rows = list(session.scalars(people if after is None else people.where(User.email > after)))
        shown = [_to_json(session, row) for row in rows[:limit]]
    more = cursors.make(_KIND, rows[limit - 1].email) if len(rows) > limit else None
    return jsonify({"users": shown, "next": more})


@blueprint.get("/<email>/quota")
def show_quota(email: str) -> Response:
    """Show the quota of the caller's account, or for an administrator of any account."""
    controller = current_worker()
    with controller.db.session() as session:
        found = _account(session, email)
        return jsonify(quotas.to_json(quotas.limits(session, controller.config, found.id, admin=found.admin)))


@blueprint.put("/<email>/quota")
def change_quota(email: str) -> Response:
    """Set an account's quota, for administrators; null restores the platform's default."""
    require_admin()
    controller, body = current_worker(), json_object()
    with controller.db.session() as session:
        found = _account(session, email)
        quotas.change(session, found.id, body)
        session.flush()
        return jsonify(quotas.to_json(quotas.limits(session, controller.config, found.id, admin=found.admin)))


@blueprint.delete("/<email>/tokens")
def revoke(email: str) -> Response:
    """Revoke all tokens of the caller's account, this request's included, or as an administrator of any account."""
    with current_worker().db.session() as session:
        void_tokens(_account(session, email))
    return empty_response(204)


def _account(session: Session, email: str) -> User:
    caller = require_user()
    wanted = email.strip().lower()
    if wanted != caller.email and not caller.admin:
        raise denied()
    found = find_user(session, wanted)
    if found is None:
        raise ApiError(Code.USER_NOT_FOUND)
    return found


def _to_json(session: Session, row: User) -> dict[str, Any]:
    config = current_worker().config
    has = quotas.standing(session.connection(), config, row.id)
    return {
        "email": row.email,
        "admin": row.admin,
        "created": row.created_at,
        "apps": has.apps,
        "limits": quotas.to_json(has.capacity),
        "usage": {
            "memory": has.memory,
            "apps": has.started,
            "services": has.services,
            "instances": has.instances,
            "disk": has.disk,
            "routes": has.routes,
        },
    }
