"""Routes of users and tokens (protocol 1.6)."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Blueprint, Response, g, jsonify, request
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from components.controller.accounts import quotas
from components.controller.accounts.auth import (
    Caller,
    add_user,
    find_user,
    hash_password,
    verify_password,
    void_tokens,
)
from components.controller.api.audit import client_network
from components.controller.api.context import (
    current_worker,
    empty_response,
    json_object,
    require_admin,
    require_user,
)
from components.controller.api.login_limits import LoginAttempt, at_the_door, count_registration
from components.controller.db.models import App, User
from components.controller.errors import ApiError, Code, bad_request, denied
from components.controller.requests.rate_limit import TooManyError
from components.controller.services import rows as service_rows

blueprint = Blueprint("users", __name__)


@blueprint.get("/users")
def listing() -> Response:
    """List all users, for administrators."""
    require_admin()
    with current_worker().db.session() as session:
        people = session.scalars(select(User).order_by(User.email).options(selectinload(User.apps)))
        return jsonify(
            [
                {
                    "email": u.email,
                    "admin": u.admin,
                    "apps": [{"name": a.name, "state": a.state} for a in u.apps],
                }
                for u in people
            ]
        )


@blueprint.post("/users")
def create() -> Response:
    """Register a user."""
    controller = current_worker()
    caller: Caller | None = g.caller
    by_admin = caller is not None and caller.admin
    if not controller.config.allow_registration and not by_admin:
        raise denied()
    network = client_network(request)
    if not by_admin:
        at_the_door(controller.limits, network)
    email, password = _text("email"), _text("password")
    if not by_admin:
        # The count stays whatever the result, and its row is not locked while the password is hashed.
        with controller.db.connection() as asked:
            count_registration(controller, asked, network)
    with controller.db.session() as session:
        if not by_admin:
            quotas.check_registration(session.connection(), controller.config)
        add_user(session, email, password, registered=not by_admin)
    return empty_response(204)


@blueprint.post("/users/<path:email>/tokens")
def token(email: str) -> Response:
    """Return a token for a password; an administrator gets any user's token without one."""
    controller = current_worker()
    caller: Caller | None = g.caller
    by_admin = caller is not None and caller.admin
    attempt = None if by_admin else LoginAttempt.begin(controller, email)
    given = json_object().get("password")
    if attempt is not None:
        attempt.take()
    with controller.db.session() as session:
        if attempt is not None:
            attempt = attempt.check(session)
        found = find_user(session, email)
        stored, known, epoch = (
            (found.crypted_password, found.email, found.token_epoch) if found else (None, "", 0)
        )
    try:
        good = _matches(stored, given) if stored is None or not by_admin else True
    except TooManyError:
        # The password was not checked.
        if attempt is not None:
            attempt.forgive()
        raise
    if not good:
        if attempt is not None:
            attempt.count()
        raise denied()
    if attempt is not None:
        # Only failed attempts count.
        attempt.forgive()
        attempt.welcome()
    return jsonify({"token": controller.tokens.make(known, epoch)})


@blueprint.get("/users/<path:email>")
def show(email: str) -> Response:
    """Show the caller's account, or for an administrator any user's."""
    caller = require_user()
    if email.lower() != caller.email and not caller.admin:
        raise denied()
    with current_worker().db.session() as session:
        found = find_user(session, email)
        if found is None:
            raise ApiError(Code.USER_NOT_FOUND)
        return jsonify({"email": found.email})


@blueprint.put("/users/<path:email>")
def change(email: str) -> Response:
    """Change the caller's password, or as an administrator any user's; earlier tokens become void.

    The token of the request itself stays valid: clients of 2011 go on with it (protocol 1.2).
    """
    caller, controller = require_user(), current_worker()
    if email.lower() != caller.email and not caller.admin:
        raise denied()
    password = _text("password")
    token_ = request.headers.get("Authorization", "").strip()
    claim = controller.tokens.read(token_)
    with controller.db.session() as session:
        found = find_user(session, email)
        if found is None:
            raise ApiError(Code.USER_NOT_FOUND)
        found.crypted_password = hash_password(password)
        void_tokens(found, keep=token_ if claim is not None and claim[0] == found.email else None)
    return empty_response(204)


@blueprint.delete("/users/<path:email>")
def remove(email: str) -> Response:
    """Delete a user with all applications and services, for administrators."""
    require_admin()
    controller = current_worker()
    with controller.db.session() as session:
        found = find_user(session, email)
        if found is None:
            raise ApiError(Code.USER_NOT_FOUND)
        owner = Caller(found.id, found.email, found.admin)
        names = list(session.scalars(select(App.name).where(App.owner_id == found.id)))
        aliases = [config.alias for config in service_rows.own_all(session, found.id)]
    for name in names:
        controller.lifecycle.delete(owner, name)
    for alias in aliases:
        controller.services.unprovision(partial(service_rows.own, caller=owner, alias=alias))
    with controller.db.session() as session:
        found = find_user(session, email)
        if found is not None:
            session.delete(found)
    controller.store.forget_owner(owner.id)
    return empty_response(204)


def _matches(stored: str | None, given: object) -> bool:
    if stored is None:
        # The same time as for a wrong password: the answer does not reveal whether the user exists.
        hash_password("nobody")
        return False
    return isinstance(given, str) and verify_password(stored, given)


def _text(key: str) -> str:
    value: Any = json_object().get(key)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{key} is missing")
    return value
