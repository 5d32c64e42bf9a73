"""Services as `vmc` asks for them (section 1.13): this platform offers none yet."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from components.controller.context import user
from components.controller.errors import ApiError

blueprint = Blueprint("services", __name__)


@blueprint.get("/services")
def listing() -> Response:
    """List the user's services."""
    user()
    return jsonify([])


@blueprint.post("/services")
def create() -> Response:
    """Refuse: there is no such offering."""
    user()
    raise ApiError(500)


@blueprint.route("/services/<alias>", methods=["GET", "DELETE"])
def one(alias: str) -> Response:  # noqa: ARG001 - the route's part
    """Refuse: nobody has such a service."""
    user()
    raise ApiError(500)
