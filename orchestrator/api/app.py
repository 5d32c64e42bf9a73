"""The Flask application: the families of calls, one shape of errors, and authentication."""

from __future__ import annotations

import time

from flask import Flask, Response, g, jsonify, request
from prometheus_client import Counter, Histogram
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from components.common import log
from components.common.errors import IngotError
from orchestrator.api import door, images, jobs, machines, operations, pools, status
from orchestrator.api.auth import AuthError
from orchestrator.api.context import EXTENSION, Orchestrator, current_orchestrator
from orchestrator.errors import RefusedError
from orchestrator.iaas.provider import ProviderError

REQUESTS = Counter("ingot_orchestrator_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("ingot_orchestrator_request_seconds", "Duration of requests.", ["method", "route"])
# Requested every second; open, or guarded by the probes' own password.
_PROBES = ("/healthz", "/readyz", "/metrics", "/varz")
MAX_BODY = 1 << 20
logger = log.get(__name__)


def create_app(orchestrator: Orchestrator) -> Flask:
    """Return the application."""
    app = Flask("ingot_orchestrator", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.extensions[EXTENSION] = orchestrator
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.url_map.strict_slashes = False
    for family in (pools, jobs, machines, images, operations, status):
        app.register_blueprint(family.blueprint)
    app.before_request(_identify)
    app.after_request(_record)
    app.register_error_handler(RefusedError, lambda error: failure(error.status, str(error)))
    app.register_error_handler(AuthError, _denied)
    app.register_error_handler(door.RefusedAtDoorError, _turned_away)
    app.register_error_handler(ProviderError, lambda error: failure(502, str(error)))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SQLAlchemyError, _database_error)
    app.register_error_handler(IngotError, lambda error: failure(500, str(error)))
    app.register_error_handler(Exception, _unexpected)
    return app


def failure(status: int, description: str) -> tuple[Response, int]:
    """Return an error in the common shape."""
    return jsonify({"code": status, "description": description}), status


def _identify() -> None:
    g.begun = time.monotonic()
    g.caller = None
    if request.path in _PROBES:
        return
    door.own_page(request)
    orchestrator = current_orchestrator()
    comer, by_password = door.comer(request), door.by_password(request)
    if wait := orchestrator.attempts.wait(comer, by_password=by_password):
        raise door.RefusedAtDoorError(f"too many failed logins: try again in {wait} s", 429, wait)
    try:
        g.caller = orchestrator.authenticator.caller(request.headers, looks=request.method in door.LOOKING)
    except AuthError as error:
        if error.status == 401 and request.headers.get("Authorization"):
            orchestrator.attempts.failed(comer, by_password=by_password)
        raise
    orchestrator.attempts.succeeded(comer)
    door.json_only(request)


def _record(response: Response) -> Response:
    rule = str(request.url_rule) if request.url_rule else "unknown"
    seconds = time.monotonic() - g.get("begun", time.monotonic())
    REQUESTS.labels(request.method, rule, str(response.status_code)).inc()
    SECONDS.labels(request.method, rule).observe(seconds)
    # A client that follows a job asks for its log many times a second.
    if request.path not in _PROBES and (request.method != "GET" or response.status_code >= 400):
        logger.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            ms=round(seconds * 1000),
            user=g.get("caller"),
            remote=request.remote_addr,
        )
    return response


def _denied(error: AuthError) -> tuple[Response, int]:
    response, status = failure(error.status, str(error))
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="ingot orchestrator"'
    return response, status


def _turned_away(error: door.RefusedAtDoorError) -> tuple[Response, int]:
    response, status = failure(error.status, str(error))
    if error.wait:
        response.headers["Retry-After"] = str(error.wait)
    return response, status


def _http_error(error: HTTPException) -> tuple[Response, int]:
    return failure(error.code or 500, error.description or error.name)


def _database_error(error: SQLAlchemyError) -> tuple[Response, int]:
    logger.error("database_error", reason=type(error).__name__, exc_info=error)
    return failure(503, "the orchestrator's database fails; the orchestrator's log has the reason")


def _unexpected(error: Exception) -> tuple[Response, int]:
    logger.error("request_failed", path=request.path, exc_info=error)
    return failure(500, "unexpected error: the orchestrator's log has the reason")
