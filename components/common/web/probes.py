"""The probes of a web daemon, on the API's own port (docs/platform.md); `components/common/probes.py` has those of the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from components.common.config import StatusConfig
from components.common.probes import authorised, readiness

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def probes(
    problems: Callable[[], list[str]],
    varz: Callable[[], Mapping[str, object]],
    status: Callable[[], StatusConfig],
) -> Blueprint:
    """Return the routes `/healthz`, `/readyz`, `/varz` and `/metrics`; all arguments are called within a request.

    Args:
        problems: returns the reasons against serving; an empty list means ready.
        varz: returns the facts for `/varz`.
        status: returns the user and the password that `/varz` and `/metrics` want.
    """
    blueprint = Blueprint("status", __name__)

    def refusal() -> Response | None:
        asked = status()
        return basic_auth_refusal(asked.user, asked.password)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        """Return that the process is alive."""
        return Response("ok\n", mimetype="text/plain")

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        """Return readiness, or the reasons against serving."""
        answer, code = readiness(problems())
        return jsonify(answer), code

    @blueprint.get("/varz", endpoint="varz")
    def varz_reply() -> Response:
        """Return the figures for a collector of 2011."""
        return refusal() or jsonify(varz())

    @blueprint.get("/metrics")
    def metrics() -> Response:
        """Return the metrics of all workers together."""
        return refusal() or _metrics()

    return blueprint


def basic_auth_refusal(user: str, password: str) -> Response | None:
    """Return the refusal for a request that does not show this user and password, else None."""
    if authorised(request.headers.get("Authorization"), user, password):
        return None
    return Response("denied\n", 401, {"WWW-Authenticate": 'Basic realm="ingot"'}, mimetype="text/plain")


def _metrics() -> Response:
    """Return the metrics of all workers together where they share a folder, else those of this process."""
    registry = REGISTRY
    if METRICS_FOLDER in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
