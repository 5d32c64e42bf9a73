"""Common parts of request handlers: the worker's parts, the caller, the body, and answers of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from flask import Response, current_app, g, request

from components.common import log
from components.common.web.probes import basic_auth_refusal
from components.controller.accounts.auth import Caller
from components.controller.composition import Controller
from components.controller.errors import BusyError, bad_request, denied, no_app
from components.controller.requests.body import MAX_ANONYMOUS, MAX_JSON, read_json
from components.controller.requests.thread_limits import REPEAT_SECONDS, Places

EXTENSION = "ingot"
logger = log.get(__name__)


def current_worker() -> Controller:
    """Return the parts of the worker that handles this request."""
    return cast("Controller", current_app.extensions[EXTENSION])


def require_user() -> Caller:
    """Return the authenticated user.

    Raises:
        ApiError: FORBIDDEN for an anonymous caller.
    """
    caller: Caller | None = g.caller
    if caller is None:
        raise denied()
    return caller


def require_admin() -> Caller:
    """Return the authenticated administrator.

    Raises:
        ApiError: FORBIDDEN for anyone else.
    """
    caller = require_user()
    if not caller.admin:
        raise denied()
    return caller


def json_value(largest: int = MAX_JSON) -> Any:
    """Return the body as JSON, read once; an empty one is an empty object.

    Args:
        largest: the most bytes that an authenticated caller may send.

    Raises:
        ApiError: BAD_REQUEST.
    """
    if "body" not in g:
        known = g.caller is not None or g.get("known", False)
        g.body = read_json(request, largest if known else MAX_ANONYMOUS)
    return g.body


def known(*, shown: bool) -> bool:
    """Note and return whether a component has shown a valid password or token."""
    g.known = g.get("known", False) or shown
    return shown


def json_object() -> Mapping[str, Any]:
    """Return the body as a JSON object.

    Raises:
        ApiError: BAD_REQUEST.
    """
    value = json_value()
    if not isinstance(value, dict):
        raise bad_request("the body is not a JSON object")
    return value


def empty_response(status: int = 200) -> Response:
    """Return the empty success of 2011: one space."""
    if status == 204:
        return Response(status=204)
    return Response(" ", status=status, mimetype="text/html")


def stored(place: Path, kind: str) -> Response:
    """Return a file of the share as an answer.

    Raises:
        ApiError: APP_NOT_FOUND when it is not there.
        ShareUnwellError: the share does not answer.
    """
    try:
        blocks = current_worker().store.read(place)
    except FileNotFoundError as error:
        raise no_app() from error
    return Response(
        blocks, mimetype=kind, headers={"Content-Length": str(blocks.size)}, direct_passthrough=True
    )


def holding(response: Response, places: Places) -> Response:
    """Return an answer that takes one of the places for slowly read answers until its end.

    Raises:
        BusyError: no place is free; the answer is closed.
    """
    if not places.take():
        response.close()
        raise BusyError(REPEAT_SECONDS)
    # Otherwise the server would send the file by itself, and its end would not be noticed.
    response.direct_passthrough = False
    response.call_on_close(places.give_back)
    return response


def insiders_only() -> None:
    """Refuse all callers but the platform's own machines.

    Raises:
        ApiError: FORBIDDEN for any other address, and for requests through a router.
    """
    forwarded = "X-Forwarded-For" in request.headers
    if not current_worker().insiders.has(request.remote_addr, forwarded=forwarded):
        logger.warning(
            "internal_route_refused", peer=request.remote_addr, forwarded=forwarded, path=request.path[:64]
        )
        raise denied()


def check_basic_auth(name: str, password: str) -> Response | None:
    """Return the refusal for a caller that has not shown this name and password, else None."""
    refusal = basic_auth_refusal(name, password)
    known(shown=refusal is None)
    return refusal
