"""`/` and the `/info` family (protocol 1.5)."""

from __future__ import annotations

from flask import Blueprint, Response, g, jsonify

from components.common.frameworks import info_frameworks, info_runtimes
from components.controller.accounts import quotas
from components.controller.accounts.auth import Caller
from components.controller.api.context import current_worker, require_user
from components.controller.apps.runtimes import versions
from components.controller.services import rows as service_rows
from components.controller.services.offerings import catalogue

blueprint = Blueprint("info", __name__)
# Clients take the text 0.999 for this generation of the API.
VERSION, BUILD = "0.999", 2222


@blueprint.get("/")
def root() -> Response | tuple[Response, int]:
    """Return a greeting, or redirect to the index page."""
    config = current_worker().config
    if config.index_page:
        return Response(status=302, headers={"Location": config.index_page})
    return Response(
        f"Welcome to {config.name}. The API is described in its documentation.\n", mimetype="text/plain"
    )


@blueprint.get("/info")
def info() -> Response:
    """Return facts of the platform, and for a user the account's limits and usage."""
    controller = current_worker()
    config = controller.config
    facts: dict[str, object] = {
        "name": config.name,
        "build": BUILD,
        "support": config.support,
        "version": VERSION,
        "description": config.description,
        "allow_debug": config.allow_debug,
    }
    caller: Caller | None = g.caller
    if caller is not None:
        with controller.db.connection() as connection:
            has = quotas.standing(connection, config, caller.id)
        facts["user"] = caller.email
        facts["limits"] = quotas.to_json(has.capacity, quotas.OLD_NAMES)
        facts["usage"] = {"memory": has.memory, "apps": has.started, "services": has.services}
        facts["frameworks"] = info_frameworks(_versions())
    return jsonify(facts)


@blueprint.get("/info/runtimes")
def runtimes() -> Response:
    """List the runtimes."""
    return jsonify(info_runtimes(_versions()))


@blueprint.get("/info/services")
def offered_services() -> Response:
    """List the offered services, type by vendor by version."""
    controller, caller = current_worker(), require_user()
    silent = controller.config.service_silent_seconds
    with controller.db.session() as session:
        return jsonify(catalogue(service_rows.offers(controller.db, session, caller.email, silent)))


def _versions() -> dict[str, str] | None:
    """Return the runtimes of the DEAs, name to version; None where no DEA has told them."""
    controller = current_worker()
    told = versions(controller.pool)
    return told if told is not None else controller.config.runtime_versions or None
