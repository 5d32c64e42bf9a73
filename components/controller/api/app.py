"""The Flask application: families of routes, one shape of errors, authentication, and a record of changes."""

from __future__ import annotations

import tempfile
from typing import IO

from flask import Flask, Request, Response, g, request
from sqlalchemy.exc import DataError, SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.routing import PathConverter

from components.common import log
from components.common.database import unavailable
from components.common.filesystem.share import ShareUnwellError
from components.common.web.app import RequestRecord, begin_request, error_response, log_request, new_app
from components.controller.accounts.auth import caller_of
from components.controller.api.audit import client_address, record, shown_path
from components.controller.api.context import EXTENSION, current_worker, json_value
from components.controller.api.openapi_operations import ADMIN, OPEN, ROWS, USER, named
from components.controller.api.routes import BLUEPRINTS
from components.controller.composition import Controller
from components.controller.errors import ApiError, BusyError, Code, unexpected
from components.controller.requests.body import MethodOverride
from components.controller.requests.query import Query, members
from components.controller.requests.rate_limit import TooManyError
from components.controller.storage import scratch_names
from components.controller.storage.store import full

RECORD = RequestRecord("controller", buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120))
# Paths that are requested every second and concern no user.
_QUIET = ("/healthz", "/readyz", "/metrics", "/varz", "/v2/leases/", "/bulk/")
_OPEN = (*_QUIET, "/staging/", "/staged_droplets/")
_WITH_BODY = ("POST", "PUT", "DELETE")
MAX_FORM_FIELD = 64 << 20
logger = log.get(__name__)


class AnyPath(PathConverter):
    """The rest of a path, with any content: doubled slashes, a leading slash, nothing."""

    regex = ".*?"
    # A slash is part of the value; Werkzeug would conclude otherwise from the expression, which has none.
    part_isolating = False
    weight = 300


class _Request(Request):
    """A request whose uploads go to the share's or the temporary disk, never to memory."""

    max_form_memory_size = MAX_FORM_FIELD

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002 - the library's signature
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        return tempfile.NamedTemporaryFile(
            dir=current_worker().config.temp_path, prefix=scratch_names.local("upload")
        )


def create_app(controller: Controller) -> Flask:
    """Return the application of one worker."""
    app = new_app("ingot_controller")
    app.request_class = _Request
    app.wsgi_app = MethodOverride(app.wsgi_app)  # type: ignore[method-assign]  # as Flask's own manual does it
    app.config["MAX_CONTENT_LENGTH"] = controller.config.max_upload_mb << 20
    app.extensions[EXTENSION] = controller
    # An encoded path may begin with a slash; the answer must not be a redirect (protocol 1.12).
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.url_map.converters["any_path"] = AnyPath
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.before_request(_identify)
    app.before_request(_refuse_unknown)
    app.after_request(_record)
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SQLAlchemyError, _database_error)
    app.register_error_handler(
        DataError,
        lambda _error: _api_error(
            ApiError(Code.BAD_REQUEST, "a value has a character or a size that cannot be stored")
        ),
    )
    app.register_error_handler(ShareUnwellError, _share_error)
    app.register_error_handler(Exception, _unexpected)
    return app


def _identify() -> None:
    begin_request()
    if request.url_rule is None or request.path.startswith(_OPEN):
        return
    controller = current_worker()
    if not controller.config.https_required and not request.headers.get("Authorization"):
        return
    with controller.db.connection() as connection:
        caller = g.caller = caller_of(connection, request, controller.tokens, controller.config)
    if caller is not None:
        # A caller that acts for another user takes from its own limit.
        wait = controller.limits.rates.take(caller.by or caller.email, g.begun)
        if wait:
            raise TooManyError(wait)


def _refuse_unknown() -> None:
    """Refuse parameters and members that a route under `/v2` does not have; no client of 2011 knows these routes.

    An unauthorized caller gets the route's own refusal instead.
    """
    rule = request.url_rule
    if rule is None or not rule.rule.startswith("/v2/"):
        return
    row, caller = ROWS[rule.endpoint], g.caller
    admitted = {OPEN: True, USER: caller is not None, ADMIN: caller is not None and caller.admin}
    if not admitted.get(row.auth):
        return
    Query(request.args, named(row.query))
    if request.method in _WITH_BODY and isinstance(body := json_value(), dict):
        members(body, named(row.body))


def _record(response: Response) -> Response:
    seconds = RECORD.observe(response)
    if not request.path.startswith(_QUIET):
        caller = g.get("caller")
        log_request(
            response,
            seconds,
            path=shown_path(request),
            user=caller.email if caller else None,
            remote=client_address(request),
        )
        if not request.path.startswith(_OPEN):
            record(response)
    return response


def _api_error(error: ApiError) -> tuple[Response, int]:
    g.error_code = error.code
    answer, status = error_response(error.status, error.code, error.description)
    if isinstance(error, TooManyError | BusyError):
        answer.headers["Retry-After"] = str(error.seconds)
    return answer, status


def _http_error(error: HTTPException) -> tuple[Response, int] | Response:
    status = error.code or 500
    if status in (404, 405):
        return Response(status=404)
    if status == 413:
        return _api_error(
            ApiError(Code.RESOURCES_PACKAGING_FAILED, "the upload is larger than the platform allows")
        )
    if status < 400:
        return Response(status=status, headers=dict(error.get_headers()))
    if status < 500:
        return _api_error(ApiError(Code.BAD_REQUEST, error.description or error.name))
    return _api_error(ApiError(Code.SYSTEM_ERROR))


def _database_error(error: SQLAlchemyError) -> tuple[Response, int]:
    if unavailable(error):
        logger.error("database_unavailable", reason=str(error).partition("\n")[0])
        return _api_error(ApiError(Code.NO_DATABASE))
    logger.error("database_error", reason=type(error).__name__, exc_info=error)
    return _api_error(ApiError(Code.DATABASE_ERROR))


def _share_error(_error: ShareUnwellError) -> tuple[Response, int]:
    logger.error("share_unavailable", path=request.path)
    return _api_error(ApiError(Code.NO_SHARE))


def _unexpected(error: Exception) -> tuple[Response, int]:
    if full(error):
        logger.error("disk_full", path=request.path, reason=str(error))
        return _api_error(unexpected("the platform's disk is full; tell its operator"))
    logger.error("request_failed", path=request.path, exc_info=error)
    return _api_error(ApiError(Code.SYSTEM_ERROR))
