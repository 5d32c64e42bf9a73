"""Calls for the images that machines are made from."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from orchestrator.api.context import Body, body, current_orchestrator
from orchestrator.errors import RefusedError

blueprint = Blueprint("images", __name__)


class ImageBody(Body, frozen=True):
    """`POST /v2/images`."""

    provider: str
    name: str
    source: str = ""


@blueprint.get("/v2/images")
def listed() -> Response:
    """List the registered images."""
    return jsonify({"images": current_orchestrator().images.listed()})


@blueprint.post("/v2/images")
def register() -> tuple[Response, int]:
    """Register an image: 201 where its provider has it, 202 where it is being imported."""
    given = body(ImageBody)
    if not given.name:
        raise RefusedError("name: must be the name of an image")
    image, importing = current_orchestrator().images.register(given.provider, given.name, given.source)
    return jsonify(image), 202 if importing else 201


@blueprint.delete("/v2/images/<provider>/<path:name>")
def remove(provider: str, name: str) -> tuple[Response, int]:
    """Remove an image from the register and from its provider."""
    current_orchestrator().images.remove(provider, name)
    return Response(), 204
