"""The probes of this daemon, on the API's own port (docs/platform.md)."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import func, select

from components.common.probes import authorised
from components.common.version import release
from orchestrator.api.context import Orchestrator, current_orchestrator
from orchestrator.db.database import DatabaseUnavailableError
from orchestrator.db.models import Machine

blueprint = Blueprint("status", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Return 200 while the process lives."""
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Return whether the daemon is fit to serve, with the reasons where it is not."""
    reasons = problems(current_orchestrator())
    answer = {"ready": not reasons, "reasons": reasons, "release": release()}
    return jsonify(answer), 503 if reasons else 200


@blueprint.get("/varz")
def varz() -> Response:
    """Return the daemon's figures."""
    refusal = _status_only()
    if refusal is not None:
        return refusal
    orchestrator = current_orchestrator()
    with orchestrator.services.db.session() as session:
        rows = session.execute(select(Machine.state, func.count()).group_by(Machine.state))
        made = {row[0]: row[1] for row in rows}
    return jsonify(
        {
            **orchestrator.identity.varz(),
            "jobs": orchestrator.journal.counts(),
            "machines": made,
            "deas": sum(dea.fresh for dea in orchestrator.services.bus_view.deas()),
        }
    )


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return the daemon's metrics."""
    refusal = _status_only()
    if refusal is not None:
        return refusal
    return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def problems(orchestrator: Orchestrator) -> list[str]:
    """Return the reasons against operating."""
    found = []
    if orchestrator.stopping.is_set():
        found.append("this orchestrator is being stopped")
    try:
        orchestrator.services.db.check()
    except DatabaseUnavailableError:
        found.append("the database does not answer")
    if not orchestrator.engine.works:
        found.append("the engine takes no jobs")
    if not orchestrator.services.bus.bus.connected:
        found.append("no connection to the message bus")
    return found


def _status_only() -> Response | None:
    status = current_orchestrator().config.status
    if authorised(request.headers.get("Authorization"), status.user, status.password):
        return None
    return Response("denied\n", 401, {"WWW-Authenticate": 'Basic realm="ingot"'}, mimetype="text/plain")
