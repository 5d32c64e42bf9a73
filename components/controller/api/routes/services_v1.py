"""Routes of services for gateways and later clients (protocol 1.14).

Every call has `Content-Type: application/json`, even without a body. Gateways show their token, all others are users.
"""

from __future__ import annotations

import hmac
from functools import partial

from flask import Blueprint, Response, jsonify, request
from sqlalchemy.orm import Session

from components.controller.api.context import current_worker, json_object, known, require_user
from components.controller.db.models import BindingToken, ServiceConfig
from components.controller.errors import ApiError, Code, bad_request, denied
from components.controller.services import rows as service_rows
from components.controller.services.gateway_client import TOKEN_HEADER
from components.controller.services.offerings import (
    BindRequest,
    ExternalBindRequest,
    HandleRequest,
    OfferingRequest,
    ProvisionRequest,
    SchemaError,
    TokenRequest,
    decode,
    offering_to_json,
    split_label,
)

blueprint = Blueprint("services_v1", __name__, url_prefix="/services/v1")
# A broker's own call, without a content type.
brokered = Blueprint("brokered_services", __name__, url_prefix="/brokered_services/poc")
_ALL = ["GET", "POST", "PUT", "DELETE"]


@blueprint.errorhandler(SchemaError)
def schema_error(error: SchemaError) -> tuple[Response, int]:
    """Return the error in the form of these calls, without a code."""
    return jsonify({"errors": str(error)}), 400


@blueprint.before_request
def json_only() -> None:
    """Refuse a request that is not declared as JSON, with the text of 2011."""
    if request.headers.get("Content-Type") != "application/json":
        raise bad_request("want Content-Type: application/json")


@blueprint.post("/offerings")
def register() -> Response:
    """Offer a service, or renew or end its offer."""
    _shown_token()
    offering = decode(json_object(), OfferingRequest)
    _gateway_of(offering.label)
    controller = current_worker()
    with controller.db.session() as session:
        service_rows.register(controller.db, session, offering)
    return jsonify({})


@brokered.get("/offerings")
def offered_by_the_broker() -> Response:
    """List the broker's offerings, for the broker."""
    config = current_worker().config
    _shows(config.service_broker_token)
    with current_worker().db.session() as session:
        found = service_rows.all_offerings(session)
        shown = [
            {"label": s.label, "description": s.description, "acls": s.acls}
            for s in found
            if s.name not in config.service_tokens
        ]
    return jsonify({"brokered_services": shown})


@blueprint.get("/offerings/<label>")
def show(label: str) -> Response:
    """Show an offering, for its gateway."""
    _gateway_of(label)
    with current_worker().db.session() as session:
        return jsonify(offering_to_json(service_rows.offering(session, label)))


@blueprint.delete("/offerings/<label>")
def withdraw(label: str) -> Response:
    """Delete an offering."""
    _gateway_of(label)
    with current_worker().db.session() as session:
        service_rows.withdraw(session, label)
    return jsonify({})


@blueprint.get("/offerings/<label>/handles")
def handles(label: str) -> Response:
    """List the handles of a gateway: instances and bindings."""
    _gateway_of(label)
    with current_worker().db.session() as session:
        return jsonify({"handles": service_rows.handles(session, service_rows.offering(session, label))})


@blueprint.post("/offerings/<label>/handles/<handle>")
def update_handle(label: str, handle: str) -> Response:
    """Store new credentials of an instance or a binding."""
    _gateway_of(label)
    given = decode(json_object(), HandleRequest)
    if given.service_id != handle:
        raise SchemaError(f"service_id: want {handle}, as the path says")
    with current_worker().db.session() as session:
        service_rows.update_handle(session, service_rows.offering(session, label), given)
    return jsonify({})


@blueprint.post("/configurations")
def provision() -> Response:
    """Create a service instance."""
    caller = require_user()
    made = current_worker().services.provision(caller, decode(json_object(), ProvisionRequest))
    return jsonify({"service_id": made.service_id, "data": made.data, "credentials": made.credentials})


@blueprint.delete("/configurations/<name>")
def unprovision(name: str) -> Response:
    """Delete a service instance and its bindings."""
    caller = require_user()
    current_worker().services.unprovision(partial(service_rows.by_name, caller=caller, name=name))
    return jsonify({})


@blueprint.post("/bindings")
def bind() -> Response:
    """Bind a service instance to an application."""
    caller = require_user()
    given = decode(json_object(), BindRequest)

    def find(session: Session) -> ServiceConfig:
        return service_rows.by_name(session, caller, given.service_id)

    token, label = current_worker().services.bind_one(caller, given.app_id, find, given.binding_options)
    return jsonify({"binding_token": token, "label": label})


@blueprint.post("/bindings/external")
def bind_external() -> Response:
    """Bind another user's service instance by its binding token."""
    caller = require_user()
    given = decode(json_object(), ExternalBindRequest)

    def find(session: Session) -> BindingToken:
        return service_rows.token(session, given.binding_token, Code.TOKEN_NOT_FOUND)

    current_worker().services.bind_one(caller, given.app_id, find)
    return jsonify({})


@blueprint.delete("/bindings/<text>")
def unbind(text: str) -> Response:
    """Delete a binding."""
    current_worker().services.unbind_token(require_user(), text, Code.BINDING_NOT_FOUND, forget=False)
    return jsonify({})


@blueprint.post("/binding_tokens")
def make_token() -> Response:
    """Create a binding token, by which other users can bind a service instance."""
    caller = require_user()
    given = decode(json_object(), TokenRequest)
    with current_worker().db.session() as session:
        config = service_rows.by_name(session, caller, given.service_id)
        token = service_rows.add_token(session, config, given.binding_options, auto_generated=False)
        return jsonify({"label": config.service.label, "binding_token": token.uuid})


@blueprint.get("/binding_tokens/<text>")
def show_token(text: str) -> Response:
    """Show what a binding token permits, for any holder."""
    with current_worker().db.session() as session:
        token = service_rows.token(session, text, Code.TOKEN_NOT_FOUND)
        return jsonify({"service_id": token.config.name, "binding_options": token.binding_options})


@blueprint.delete("/binding_tokens/<text>")
def forget_token(text: str) -> Response:
    """Delete a binding token and the bindings made by it."""
    current_worker().services.unbind_token(require_user(), text, Code.TOKEN_NOT_FOUND, forget=True)
    return jsonify({})


@blueprint.route("/configurations/<name>/snapshots", methods=_ALL)
@blueprint.route("/configurations/<name>/snapshots/<path:rest>", methods=_ALL)
@blueprint.route("/configurations/<name>/serialized/<path:rest>", methods=_ALL)
@blueprint.route("/configurations/<name>/jobs/<path:rest>", methods=_ALL)
def lifecycle(name: str, rest: str = "") -> Response:  # noqa: ARG001 - the route's parts
    """Refuse snapshots, export and import, which are not implemented."""
    require_user()
    raise ApiError(Code.EXTENSION_NOT_IMPL, "lifecycle")


def _shown_token() -> str:
    """Return the token of a gateway's request.

    Raises:
        ApiError: FORBIDDEN.
    """
    token, config = request.headers.get(TOKEN_HEADER), current_worker().config
    if not token:
        raise denied()
    ours = [t for t in (*config.service_tokens.values(), config.service_broker_token) if t]
    # Only the label, in the body, determines the vendor whose token it must be.
    known(shown=any(hmac.compare_digest(one.encode(), token.encode()) for one in ours))
    return token


def _gateway_of(label: str) -> None:
    """Refuse all callers but the gateway of that offering's vendor.

    Raises:
        ApiError: FORBIDDEN.
    """
    config = current_worker().config
    _shows(config.service_tokens.get(split_label(label)[0], config.service_broker_token))


def _shows(expected: str) -> None:
    if not expected or not hmac.compare_digest(expected.encode(), _shown_token().encode()):
        raise denied()
