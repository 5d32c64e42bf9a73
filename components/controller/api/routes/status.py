"""Probes of this daemon, on the API's own port (docs/platform.md)."""

from __future__ import annotations

import os

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import func, select

from components.common.states import AppState
from components.common.version import release
from components.controller.api.context import check_basic_auth, current_worker
from components.controller.composition import Controller
from components.controller.db.database import DatabaseUnavailableError
from components.controller.db.models import App, User

blueprint = Blueprint("status", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Return that the process is alive."""
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Return readiness, or the reasons against serving."""
    reasons = problems(current_worker())
    answer = {"ready": not reasons, "reasons": reasons, "release": release()}
    return jsonify(answer), 503 if reasons else 200


@blueprint.get("/varz")
def varz() -> Response:
    """Return the figures for a collector of 2011."""
    controller = current_worker()
    refusal = _status_only()
    if refusal is not None:
        return refusal
    with controller.db.session() as session:
        total = session.scalar(select(func.count()).select_from(App))
        started = session.scalar(select(func.count()).where(App.state == AppState.STARTED))
        users = session.scalar(select(func.count()).select_from(User))
    return jsonify(
        {
            **controller.identity.varz(),
            "apps": total,
            "started_apps": started,
            "users": users,
            "deas": len(controller.pool.beats()),
        }
    )


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return the metrics of all workers together."""
    refusal = _status_only()
    if refusal is not None:
        return refusal
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def problems(controller: Controller) -> list[str]:
    """Return the reasons against serving."""
    found = []
    if controller.stopping.is_set():
        found.append("this controller is being stopped")
    if controller.draining():
        found.append("draining")
    try:
        controller.db.check()
    except DatabaseUnavailableError:
        found.append("the database does not answer")
    trouble = controller.store.trouble()
    if trouble:
        found.append(trouble)
    if not controller.bus.bus.connected:
        found.append("no connection to the message bus")
    return found


def _status_only() -> Response | None:
    status = current_worker().config.status
    return check_basic_auth(status.user, status.password)
