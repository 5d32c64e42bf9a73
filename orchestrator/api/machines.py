"""Calls for machines: all that the platform has."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response, jsonify

from orchestrator.api import views
from orchestrator.api.context import Orchestrator, current_orchestrator

blueprint = Blueprint("machines", __name__)
# A DEA beats every second; one that was not heard for so long since the orchestrator began to listen does not beat.
LISTEN_SECONDS = 5.0


@blueprint.get("/v2/machines")
def listed() -> Response:
    """List all machines."""
    return jsonify({"machines": everything(current_orchestrator())})


def everything(orchestrator: Orchestrator) -> list[dict[str, Any]]:
    """Return all machines as the API shows them."""
    since = time.monotonic() - orchestrator.begun
    listening = orchestrator.services.bus.bus.connected and since > LISTEN_SECONDS
    return views.machines(orchestrator.services, listening=listening)
