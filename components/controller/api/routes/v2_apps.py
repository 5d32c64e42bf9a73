"""Routes of an application beyond 2011: its rolling update, its revisions, and the rollback (docs/platform.md)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from components.controller.api.context import current_worker, json_object, require_user
from components.controller.api.routes.apps import update_state
from components.controller.apps import revisions, summary
from components.controller.apps import rows as app_rows
from components.controller.apps.summary import AppSummary
from components.controller.db.models import AppUpdate
from components.controller.requests.query import members, whole
from components.controller.rolling_updates import rows as update_rows

blueprint = Blueprint("v2_apps", __name__, url_prefix="/v2/apps")
# The largest value of the column.
MOST_REVISION = (1 << 31) - 1
_PARTS = {
    "staging": ("framework", "runtime", "command", "model", "stack"),
    "resources": ("memory", "disk", "fds"),
}


@blueprint.get("/<name>/update")
def update(name: str) -> Response:
    """Show the last rolling update, or without one the running version."""
    return jsonify(_update_to_json(name))


@blueprint.put("/<name>/update")
def change_and_roll(name: str) -> Response:
    """Change an application and begin the rolling update of its instances, in one step."""
    caller, body = require_user(), json_object()
    for part, known in _PARTS.items():
        if isinstance(given := body.get(part), dict):
            members(given, known)
    current_worker().lifecycle.change_and_roll(caller, name, body)
    response = jsonify(_update_to_json(name))
    response.status_code = 202
    return response


@blueprint.get("/<name>/revisions")
def listing(name: str) -> Response:
    """List an application's revisions, newest first."""
    controller, caller = current_worker(), require_user()
    with controller.db.session() as session:
        app = app_rows.find(session, caller, name)
        shown = revisions.to_json(app, revisions.of(session, app.id))
    return jsonify({"revisions": shown})


@blueprint.post("/<name>/rollback")
def roll_back(name: str) -> Response:
    """Return to a revision: by a rolling update without staging, or for a stopped application by a change of droplet."""
    caller, number = require_user(), whole(json_object(), "revision", None, 1, MOST_REVISION)
    rolls = current_worker().lifecycle.roll_back(caller, name, number)
    response = jsonify(_update_to_json(name))
    response.status_code = 202 if rolls else 200
    return response


def _update_to_json(name: str) -> dict[str, Any]:
    controller, caller = current_worker(), require_user()
    with controller.db.session() as session:
        app = summary.find(session.connection(), caller, name)
        row = session.get(AppUpdate, app.id)
    shown = update_rows.to_json(row) if row is not None else _never(app)
    return {"state": update_state(app, update_rows.outcome(app.version, row)), **shown}


def _never(app: AppSummary) -> dict[str, Any]:
    return {
        "since": app.updated_at,
        "from": None,
        "to": app.version,
        "replaced": 0,
        "instances": app.instances,
        "message": "",
    }
