"""Routes of records: pages of applications, events, usage, and the description of all routes (docs/platform.md)."""

from __future__ import annotations

import datetime as dt
import time

from flask import Blueprint, Response, current_app, jsonify, request
from sqlalchemy import and_, or_, select

from components.controller.accounts import events, usage
from components.controller.accounts.auth import find_user
from components.controller.api import openapi
from components.controller.api.context import current_worker, require_user
from components.controller.apps import rows as app_rows
from components.controller.apps import summary
from components.controller.apps.summary import AppSummary
from components.controller.db.models import App, User
from components.controller.errors import ApiError, Code, bad_request, denied
from components.controller.requests.query import LARGEST_PAGE, PAGE, Query

blueprint = Blueprint("v2_records", __name__, url_prefix="/v2")
_APPS, _EVENTS = "apps", "events"
MOST_DAYS = 366
_FAR = 1e11


@blueprint.get("/apps")
def applications() -> Response:
    """List the caller's applications by name, or for an administrator another user's or all."""
    controller, caller = current_worker(), require_user()
    query = Query(request.args, ("limit", "after", "owner", "all"))
    limit = query.number("limit", PAGE, 1, LARGEST_PAGE)
    owner, everybody = query.text("owner"), query.flag("all")
    after = query.cursor("after", controller.cursors, _APPS)
    if (owner is not None or everybody) and not caller.admin:
        raise denied()
    rows = select(User.email, *summary.COLUMNS).join(App, App.owner_id == User.id)
    rows = rows.order_by(App.name, App.id).limit(limit + 1)
    if after is not None:
        name, id_ = _pair(after)
        rows = rows.where(or_(App.name > name, and_(App.name == name, App.id > id_)))
    with controller.db.session() as session:
        if owner is not None:
            found = find_user(session, owner)
            if found is None:
                raise ApiError(Code.USER_NOT_FOUND)
            rows = rows.where(App.owner_id == found.id)
        elif not everybody:
            rows = rows.where(App.owner_id == caller.id)
        page = [(email, AppSummary(*columns)) for email, *columns in session.execute(rows)]
    running = controller.instance_queries.running([app for _, app in page[:limit]])
    shown = [
        {**app_rows.to_json(app, running.get(app.id)), "id": app.id, "owner": email}
        for email, app in page[:limit]
    ]
    last = page[limit - 1][1] if len(page) > limit else None
    more = controller.cursors.make(_APPS, [last.name, last.id]) if last else None
    return jsonify({"apps": shown, "next": more})


@blueprint.get("/events")
def happened() -> Response:
    """List events, newest first: the caller's own, or for an administrator all."""
    controller, caller = current_worker(), require_user()
    query = Query(request.args, ("app", "user", "since", "limit", "after"))
    limit = query.number("limit", PAGE, 1, LARGEST_PAGE)
    who = query.text("user")
    before = query.cursor("after", controller.cursors, _EVENTS)
    if before is not None and (isinstance(before, bool) or not isinstance(before, int)):
        raise bad_request("after: this is not a cursor of this listing")
    wanted = events.matching(
        own=None if caller.admin else caller.email,
        user=who.lower() if who else None,
        app=query.text("app"),
        since=query.seconds("since", 0.0, _FAR),
        before=before,
    )
    with controller.db.session() as session:
        page = list(session.scalars(wanted.limit(limit + 1)))
    more = controller.cursors.make(_EVENTS, page[limit - 1].id) if len(page) > limit else None
    return jsonify({"events": [events.to_json(event) for event in page[:limit]], "next": more})


@blueprint.get("/usage")
def used() -> Response:
    """Return usage by day, user and application, as JSON or CSV: the caller's own, or for an administrator all."""
    controller, caller = current_worker(), require_user()
    query = Query(request.args, ("from", "to", "user", "app", "format"))
    today = dt.datetime.fromtimestamp(time.time(), dt.UTC).date()
    last = query.day("to", today)
    first = query.day("from", max(last, dt.date(1970, 2, 1)) - dt.timedelta(days=30))
    if not 0 <= (last - first).days < MOST_DAYS:
        raise bad_request(f"from: want a day that is not after `to`, and at most {MOST_DAYS} days before it")
    whose = query.text("user")
    form = query.choice("format", ("json", "csv"))
    if whose is not None and whose.lower() != caller.email and not caller.admin:
        raise denied()
    wanted = usage.days(
        first,
        last,
        user_id=None if caller.admin else caller.id,
        email=whose.lower() if whose and caller.admin else None,
        app=query.text("app"),
    )
    with controller.db.session() as session:
        rows = [usage.to_json(row) for row in session.scalars(wanted)]
    asked = request.accept_mimetypes.best_match(["application/json", "text/csv"], "application/json")
    if form == "csv" or (form is None and asked == "text/csv"):
        headers = {"Content-Disposition": "attachment; filename=usage.csv"}
        return Response(usage.as_csv(rows), mimetype="text/csv", headers=headers)
    return jsonify({"usage": rows})


@blueprint.get("/openapi.json")
def described() -> Response:
    """Return the OpenAPI 3.1 description of every route, those of 2011 included."""
    return jsonify(openapi.describe(current_app, current_worker().config.api))


def _pair(value: object) -> tuple[str, int]:
    if (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    ):
        return value[0], value[1]
    raise bad_request("after: this is not a cursor of this listing")
