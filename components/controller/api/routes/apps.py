"""Routes of applications: the four calls of a push, and related ones (protocol 1.7 to 1.11)."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, request

from components.common.filesystem import trees
from components.common.states import AppState, PackageState
from components.controller.api.context import (
    current_worker,
    empty_response,
    holding,
    json_object,
    json_value,
    require_user,
    stored,
)
from components.controller.apps import rows as app_rows
from components.controller.apps import summary
from components.controller.apps.summary import AppSummary
from components.controller.db.models import AppUpdate, UpdateState
from components.controller.errors import bad_request, no_app
from components.controller.packages.upload import PackageLimits, build_package, parse_resources
from components.controller.requests.body import MAX_FINGERPRINTS
from components.controller.requests.rate_limit import TooManyError
from components.controller.rolling_updates import rows as update_rows
from components.controller.storage import scratch_names

blueprint = Blueprint("apps", __name__)


@blueprint.post("/apps")
def create() -> Response:
    """Create an application."""
    name = current_worker().lifecycle.create(require_user(), json_object())
    url = f"{request.scheme}://{_front()}/apps/{quote(name)}"
    response = jsonify({"result": "success", "redirect": url})
    response.status_code = 302
    response.headers["Location"] = url
    return response


@blueprint.get("/apps")
def listing() -> Response:
    """List the user's applications, with one question to the health managers for all."""
    controller, caller = current_worker(), require_user()
    with controller.db.connection() as connection:
        found = summary.owned(connection, caller)
    running = controller.instance_queries.running(found)
    return jsonify([app_rows.to_json(a, running.get(a.id)) for a in found])


@blueprint.get("/apps/<name>")
def show(name: str) -> Response:
    """Show an application."""
    controller, caller = current_worker(), require_user()
    with controller.db.connection() as connection:
        app = summary.find(connection, caller, name)
    running = controller.instance_queries.running([app])
    return jsonify(app_rows.to_json(app, running.get(app.id)))


@blueprint.put("/apps/<name>")
def update(name: str) -> Response:
    """Change an application; return when it is staged and started."""
    current_worker().lifecycle.update(require_user(), name, json_object())
    return empty_response()


@blueprint.delete("/apps/<name>")
def delete(name: str) -> Response:
    """Delete an application."""
    current_worker().lifecycle.delete(require_user(), name)
    return empty_response()


# Clients send POST with the form field `_method=put`, because forms cannot send PUT.
@blueprint.route("/apps/<name>/application", methods=["POST", "PUT"])
def upload(name: str) -> Response:
    """Store an application's files: a zip, and the list of those that the pool has."""
    controller, caller = current_worker(), require_user()
    config = controller.config
    with controller.db.session() as session:
        app_id = app_rows.find(session, caller, name).id
        key, takings = f"upload {caller.by or caller.email}", controller.limits.takings
        if wait := takings.take(session.connection(), key, config.upload_limit):
            raise TooManyError(wait)
    resources = parse_resources(request.form.get("resources"))
    file = request.files.get("application")
    if file is None and "application" in request.form:
        raise bad_request("the part `application` wants a file name")
    as_is = request.form.get("as_is", "false")
    if as_is not in ("true", "false"):
        raise bad_request("the field `as_is` must be true or false")
    limits = PackageLimits(config.max_app_mb << 20, config.max_app_files)
    work = Path(tempfile.mkdtemp(dir=config.temp_path, prefix=scratch_names.local("package")))
    try:
        build_package(
            controller.store,
            caller.id,
            Path(str(file.stream.name)) if file is not None else None,
            resources,
            work,
            limits=limits,
            keep=lambda scratch, digest: controller.lifecycle.keep_package(app_id, scratch, digest),
            as_is=as_is == "true",
        )
    finally:
        # A folder that cannot be removed remains as that of a dead process: the next sweep clears it.
        with contextlib.suppress(OSError):
            trees.remove(work)
        if file is not None:
            file.close()
    return empty_response()


@blueprint.get("/apps/<name>/application")
def download(name: str) -> Response:
    """Return the package."""
    controller, caller = current_worker(), require_user()
    with controller.db.session() as session:
        digest = app_rows.find(session, caller, name).package_hash
    if digest is None:
        raise no_app()
    sent = stored(controller.store.package(digest), "application/zip")
    sent.headers.set("Content-Disposition", "attachment", filename=f"{name}.zip")
    return holding(sent, controller.held.bodies)


@blueprint.post("/resources")
def resources() -> Response:
    """Return the fingerprints whose files the user has sent before, unchanged."""
    owner = require_user().id
    value = json_value(MAX_FINGERPRINTS)
    if not isinstance(value, list):
        return jsonify([])
    store = current_worker().store
    found = store.run(
        lambda: [
            v
            for v in value
            if isinstance(v, dict) and store.has_resource(owner, v.get("sha1"), v.get("size"))
        ]
    )
    return jsonify(found)


@blueprint.put("/apps/<name>/update")
def roll(name: str) -> Response:
    """Stage an application, and begin a rolling update (protocol 1.11)."""
    current_worker().lifecycle.roll(require_user(), name, json_object())
    return empty_response(204)


@blueprint.get("/apps/<name>/update")
def roll_state(name: str) -> Response:
    """Return the state of the last update."""
    controller, caller = current_worker(), require_user()
    with controller.db.session() as session:
        app = summary.find(session.connection(), caller, name)
        outcome = update_rows.outcome(app.version, session.get(AppUpdate, app.id))
    return jsonify({"state": update_state(app, outcome), "since": app.updated_at})


def update_state(app: AppSummary, outcome: str | None) -> str:
    """Return the state of an update in the terms of clients of 2011; `outcome` is that of its own row."""
    if app.state != AppState.STARTED or app.package_state == PackageState.FAILED:
        return UpdateState.CANARY_FAILED
    if outcome is not None:
        return outcome
    if app.package_state == PackageState.PENDING:
        return UpdateState.UPDATING
    if app.package_state != PackageState.STAGED:
        return "NONE"
    instance_queries = current_worker().instance_queries
    if instance_queries.running([app]).get(app.id) == app.instances:
        return UpdateState.SUCCEEDED
    return UpdateState.CANARY_FAILED if instance_queries.crashes(app) else UpdateState.UPDATING


def _front() -> str:
    """Return the host and port of the client's request; a router passes the host on without its port."""
    port = current_worker().config.external_port
    return request.host if ":" in request.host or port == 80 else f"{request.host}:{port}"
