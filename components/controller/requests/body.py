"""Bodies of requests: the method override of forms, and JSON with bounded size (protocol 1.1)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from werkzeug.exceptions import RequestEntityTooLarge

from components.common.digits import whole_number
from components.controller.errors import bad_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Request

# Bytes. The fingerprints of the largest application take about the first, no other body comes near it. A client that is not
# authenticated yet sends an email and a password.
MAX_FINGERPRINTS, MAX_JSON, MAX_ANONYMOUS = 32 << 20, 1 << 20, 64 << 10
# The memory depends on the number of JSON's parts: a megabyte of `[[],[],…` takes thirty. The largest application's
# fingerprints are 100,000 objects of three members.
_MOST_VESSELS, _MOST_MEMBERS = 500_000, 2_000_000
_MAX_FORM = 64 << 10
# The bytes up to which a refused body is read to its end, so that the client sees the error; none for anonymous clients.
_MAX_DRAINED = 256 << 20
_BLOCK = 1 << 20
_FORM = "application/x-www-form-urlencoded"
_METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH")


class MethodOverride:
    """A WSGI middleware that gives a POST the method of its form's `_method` or of `X-HTTP-Method-Override`.

    A multipart form is left to its route: it is large, and only one route accepts one.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if environ["REQUEST_METHOD"] == "POST":
            method = (_in_form(environ) or environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", "")).strip().upper()
            if method in _METHODS:
                environ["REQUEST_METHOD"] = method
        return self._app(environ, start_response)


def _in_form(environ: WSGIEnvironment) -> str:
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    length = whole_number(environ.get("CONTENT_LENGTH") or "", _MAX_FORM)
    if kind != _FORM or length is None:
        return ""
    body: bytes = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    try:
        return parse_qs(body.decode("latin-1"), max_num_fields=1000).get("_method", [""])[0]
    except ValueError:
        return ""


def read_json(request: Request, largest: int) -> Any:
    """Return a body as JSON; an empty one is an empty object.

    Args:
        request: of the body.
        largest: the most bytes that it may have.

    Raises:
        ApiError: BAD_REQUEST for a body that is too large, is no JSON, or holds texts or numbers that cannot be represented.
    """
    shown = f"{largest >> 20} MB" if largest >= 1 << 20 else f"{largest >> 10} KB"
    too_large = bad_request(f"the body is larger than {shown}")
    if (request.content_length or 0) > largest:
        # Old clients read an answer only once they have sent everything. The worker reads from them for a while, without a thread.
        most = 0 if largest <= MAX_ANONYMOUS else _MAX_DRAINED
        left = request.content_length or 0
        while left <= most and (block := request.environ["wsgi.input"].read(min(left, _BLOCK))):
            left -= len(block)
        # A second read finds nothing, and does not wait.
        request.environ["wsgi.input"] = io.BytesIO()
        raise too_large
    request.max_content_length = largest
    try:
        raw = request.get_data(cache=True)
    except RequestEntityTooLarge as error:
        raise too_large from error
    return parse_json(raw, "the body") if raw.strip() else {}


def parse_json(raw: bytes, what: str) -> Any:
    """Return the JSON that a client sent; `what` names it in errors.

    Raises:
        ApiError: BAD_REQUEST for JSON with too many parts, invalid JSON, or texts or numbers that cannot be represented.
    """
    # Before the parser runs: commas in texts count as well, and the bound allows many.
    if raw.count(b"[") + raw.count(b"{") > _MOST_VESSELS or raw.count(b",") > _MOST_MEMBERS:
        raise bad_request(f"{what} has too many parts")
    try:
        value = json.loads(raw, parse_constant=_no_number)
        if b"\\u" in raw:
            # Half a surrogate pair passes the parser, but no later encoding.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise bad_request(f"{what} is not JSON") from error
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")
