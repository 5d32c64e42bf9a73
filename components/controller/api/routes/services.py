"""Routes of services for `vmc` (protocol 1.13)."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Response, jsonify

from components.controller.api.context import current_worker, json_object, require_user
from components.controller.services import rows as service_rows
from components.controller.services.offerings import (
    LegacyProvisionRequest,
    SchemaError,
    decode,
    legacy_to_json,
)

blueprint = Blueprint("services", __name__, url_prefix="/services")


@blueprint.errorhandler(SchemaError)
def schema_error(error: SchemaError) -> tuple[Response, int]:
    """Return the error in the form of these calls, without a code."""
    return jsonify({"description": str(error)}), 400


@blueprint.get("")
def listing() -> Response:
    """List the user's services."""
    caller = require_user()
    with current_worker().db.session() as session:
        return jsonify([legacy_to_json(config) for config in service_rows.own_all(session, caller.id)])


@blueprint.post("")
def create() -> Response:
    """Create a service."""
    controller, caller = current_worker(), require_user()
    with controller.db.session() as session:
        controller.services.check_limit(session, caller)
    controller.services.provision(caller, decode(json_object(), LegacyProvisionRequest))
    return jsonify({})


@blueprint.get("/<alias>")
def show(alias: str) -> Response:
    """Show one of the user's services."""
    caller = require_user()
    with current_worker().db.session() as session:
        return jsonify(legacy_to_json(service_rows.own(session, caller, alias)))


@blueprint.delete("/<alias>")
def delete(alias: str) -> Response:
    """Delete a service and its bindings."""
    caller = require_user()
    current_worker().services.unprovision(partial(service_rows.own, caller=caller, alias=alias))
    return jsonify({})


@blueprint.route("/<label>/tokens", methods=["POST", "DELETE"])
def tokens(label: str) -> Response:  # noqa: ARG001 - the route's part
    """Return the fixed answer of 2011."""
    return jsonify({"error": "not implemented"})
