"""Calls for operations on the whole platform: its release, and the share."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify

from orchestrator.api.context import Body, body, current_orchestrator, submit
from orchestrator.errors import RefusedError
from orchestrator.inventory import release_record

blueprint = Blueprint("operations", __name__)


class RollBody(Body, frozen=True):
    """`POST /v2/roll`; `share` is the part of a pool that is rolled at a time."""

    release: str
    share: float | msgspec.UnsetType = msgspec.UNSET


class RollbackBody(Body, frozen=True):
    """`POST /v2/rollback`; without a release, to the one before."""

    release: str | msgspec.UnsetType = msgspec.UNSET


class WireBody(Body, frozen=True):
    """`POST /v2/wire_nfs` and `POST /v2/unwire_nfs`; without hosts, all that want the share."""

    hosts: list[str] | msgspec.UnsetType = msgspec.UNSET


@blueprint.get("/v2/release")
def release() -> Response:
    """Return the running release, the goal of an unfinished roll, and the default of a rollback."""
    folder = current_orchestrator().services.inventory.folder
    known = release_record.recorded(folder)
    return jsonify(
        {
            "release": known.get("ingot_release"),
            "rolling": known.get("ingot_release_rolling"),
            "back": release_record.return_release(folder) or None,
        }
    )


@blueprint.post("/v2/roll")
def roll() -> tuple[Response, int]:
    """Roll the platform to a release."""
    given = body(RollBody)
    if given.share is not msgspec.UNSET and not 0 < given.share <= 1:
        raise RefusedError(f"share: must be more than 0 and at most 1, not {given.share:g}")
    return submit("roll", _request(given))


@blueprint.post("/v2/rollback")
def rollback() -> tuple[Response, int]:
    """Roll the platform back."""
    return submit("rollback", _request(body(RollbackBody)))


@blueprint.post("/v2/wire_nfs")
def wire_nfs() -> tuple[Response, int]:
    """Wire the share."""
    return submit("wire_nfs", _request(body(WireBody)))


@blueprint.post("/v2/unwire_nfs")
def unwire_nfs() -> tuple[Response, int]:
    """Unwire the share."""
    return submit("unwire_nfs", _request(body(WireBody)))


def _request(given: Body) -> dict[str, Any]:
    request: dict[str, Any] = msgspec.to_builtins(given)
    if request.get("release") == "":
        raise RefusedError("release: must be the name of a release")
    if request.get("hosts") == []:
        raise RefusedError("hosts: must name at least one, or be left out")
    return request
