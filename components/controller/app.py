"""The Flask application: families of routes, one shape of errors, who asks, and a record of what was changed."""

from __future__ import annotations

import tempfile
import time
from typing import IO, Any

from flask import Flask, Request, Response, g, jsonify, request
from prometheus_client import Counter, Histogram
from sqlalchemy.exc import DataError, SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from components.common import log
from components.controller import (
    routes_apps,
    routes_bulk,
    routes_files,
    routes_info,
    routes_services,
    routes_services_v1,
    routes_staging,
    routes_status,
    routes_users,
    routes_v2,
)
from components.controller.auth import caller_of
from components.controller.context import EXTENSION, Controller, here
from components.controller.errors import ApiError
from components.controller.models import Event

REQUESTS = Counter("ingot_controller_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "ingot_controller_request_seconds",
    "How long requests took.",
    ["method", "route"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120),
)
# Paths that are asked every second and say nothing about users.
_QUIET = ("/healthz", "/readyz", "/metrics", "/varz", "/v2/leases/", "/bulk/")
_OPEN = (*_QUIET, "/staging/", "/staged_droplets/")
MAX_FORM_FIELD = 64 << 20
logger = log.get(__name__)


class AnyPath(PathConverter):
    """The rest of a path, whatever is in it: doubled slashes, a leading one, nothing."""

    regex = ".*?"
    # A slash is part of it; Werkzeug would conclude otherwise from the expression, which has none.
    part_isolating = False
    weight = 300


class _Request(Request):
    """Uploads go to the share's or the temporary disk, never to memory."""

    max_form_memory_size = MAX_FORM_FIELD

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002 - the library's signature
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        return tempfile.NamedTemporaryFile(dir=here().config.temp_path, prefix="ingot-upload-")


def create_app(controller: Controller) -> Flask:
    """Make the application of one worker."""
    app = Flask("ingot_controller", static_folder=None)
    app.request_class = _Request
    app.config["MAX_CONTENT_LENGTH"] = controller.config.max_upload_mb << 20
    app.extensions[EXTENSION] = controller
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    # An encoded path may begin with a slash; it must not be answered with a redirect (section 1.12).
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters["any_path"] = AnyPath
    for family in (
        routes_info,
        routes_users,
        routes_apps,
        routes_files,
        routes_staging,
        routes_services,
        routes_services_v1,
        routes_bulk,
        routes_v2,
        routes_status,
    ):
        app.register_blueprint(family.blueprint)
    app.before_request(_identify)
    app.after_request(_record)
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SQLAlchemyError, _database_error)
    app.register_error_handler(DataError, lambda _error: _api_error(ApiError(100, "a text is not one")))
    app.register_error_handler(Exception, _unexpected)
    return app


def _identify() -> None:
    g.begun = time.monotonic()
    g.caller = None
    if request.url_rule is None or request.path.startswith(_OPEN):
        return
    controller = here()
    if not controller.config.https_required and not request.headers.get("Authorization"):
        return
    with controller.db.session() as session:
        g.caller = caller_of(session, request, controller.tokens, controller.config)


def _record(response: Response) -> Response:
    rule = str(request.url_rule) if request.url_rule else "unknown"
    seconds = time.monotonic() - g.get("begun", time.monotonic())
    REQUESTS.labels(request.method, rule, str(response.status_code)).inc()
    SECONDS.labels(request.method, rule).observe(seconds)
    if not request.path.startswith(_QUIET):
        caller = g.get("caller")
        logger.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            ms=round(seconds * 1000),
            user=caller.email if caller else None,
            remote=request.remote_addr,
        )
        if (
            request.method in ("POST", "PUT", "DELETE")
            and caller is not None
            and request.url_rule is not None
        ):
            _audit(caller.by or caller.email, caller.email if caller.by else "", response.status_code)
    return response


def _audit(who: str, acting_for: str, status: int) -> None:
    controller = here()
    path = request.path[:512]
    try:
        with controller.db.session() as session:
            session.add(
                Event(
                    at=time.time(),
                    who=who,
                    acting_for=acting_for,
                    method=request.method,
                    path=path,
                    status=status,
                )
            )
    except SQLAlchemyError:
        logger.exception("event_not_kept")
    result = "SUCCEEDED" if status < 400 else "FAILED"
    event: list[Any] = [time.time(), "USER", who, f"{request.method}:{path}", result]
    controller.bus.publish("vcap.cc.events", event)


def _api_error(error: ApiError) -> tuple[Response, int]:
    return jsonify({"code": error.code, "description": error.description}), error.status


def _http_error(error: HTTPException) -> tuple[Response, int] | Response:
    status = error.code or 500
    if status in (404, 405):
        return Response(status=404)
    if status == 413:
        return _api_error(ApiError(402, "the upload is larger than the platform allows"))
    if status < 400:
        return Response(status=status, headers=dict(error.get_headers()))
    if status < 500:
        return _api_error(ApiError(100, error.description or error.name))
    return _api_error(ApiError(111))


def _database_error(error: SQLAlchemyError) -> tuple[Response, int]:
    logger.error("database_error", reason=type(error).__name__, exc_info=error)
    return _api_error(ApiError(101))


def _unexpected(error: Exception) -> tuple[Response, int]:
    logger.error("request_failed", path=request.path, exc_info=error)
    return _api_error(ApiError(111))
