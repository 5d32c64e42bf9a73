"""Routes beyond 2011 (docs/platform.md): leases, machines, the staging log, the caller."""

from __future__ import annotations

import re

from flask import Blueprint, Response, jsonify, request

from components.controller.api.context import (
    check_basic_auth,
    current_worker,
    insiders_only,
    json_object,
    require_user,
)
from components.controller.apps import rows as app_rows
from components.controller.db import leases
from components.controller.db.leases import LONGEST_TTL, Held
from components.controller.errors import ApiError, Code, bad_request
from components.controller.pool import machines
from components.controller.requests.query import Query, members

blueprint = Blueprint("v2", __name__, url_prefix="/v2")
_NAME = re.compile(r"[a-z0-9_.-]{1,64}")


@blueprint.put("/leases/<name>")
def take_lease(name: str) -> Response | tuple[Response, int]:
    """Take or renew a lease: 200 when the caller holds it, else 409, with its holder."""
    refusal = _bulk_only()
    if refusal is not None:
        return refusal
    holder = _holder("ttl")
    ttl = json_object().get("ttl")
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= LONGEST_TTL:
        raise bad_request(f"ttl: want more than 0 and at most {LONGEST_TTL:g} seconds")
    if not _NAME.fullmatch(name):
        raise bad_request("a lease's name is made of lower-case letters, digits, `_`, `.` and `-`")
    controller = current_worker()
    with controller.db.session() as session:
        held = leases.take(controller.db, session, name, holder, float(ttl))
    return _answer(held), 200 if held.holder == holder else 409


@blueprint.delete("/leases/<name>")
def give_back_lease(name: str) -> Response | tuple[Response, int]:
    """Release a lease; one that is free already is no error."""
    refusal = _bulk_only()
    if refusal is not None:
        return refusal
    controller, holder = current_worker(), _holder()
    with controller.db.session() as session:
        held = leases.give_back(controller.db, session, name, holder)
    return (jsonify({}), 200) if held is None else (_answer(held), 409)


@blueprint.get("/me")
def me() -> Response:
    """Return the caller; other daemons verify a token by this."""
    caller = require_user()
    return jsonify({"email": caller.email, "admin": caller.admin})


@blueprint.get("/machines")
def pool() -> Response:
    """List the machines of the pool."""
    require_user()
    controller = current_worker()
    return jsonify({"machines": machines.listing(controller.db, controller.pool)})


@blueprint.get("/apps/<name>/staging_log")
def staging_log(name: str) -> Response:
    """Return the log of the last staging, also while it runs."""
    controller, caller = current_worker(), require_user()
    with controller.db.session() as session:
        app_id = app_rows.find(session, caller, name).id
    text = controller.stagings.last_log(app_id)
    if text is None:
        raise ApiError(Code.APP_FILE_NOT_FOUND, "staging_log")
    return Response(text, mimetype="text/plain")


def _bulk_only() -> Response | None:
    insiders_only()
    config = current_worker().config
    return check_basic_auth(config.bulk_user, config.bulk_password)


def _holder(*more: str) -> str:
    """Return the holder in a request for a lease; it may have no other members but `more`."""
    Query(request.args, ())
    holder = members(json_object(), ("holder", *more)).get("holder")
    if not isinstance(holder, str) or not 1 <= len(holder) <= 128:
        raise bad_request("holder: want 1 to 128 characters")
    return holder


def _answer(held: Held) -> Response:
    return jsonify({"holder": held.holder, "token": held.token, "expires_in": round(held.expires_in, 3)})
