"""Events: the caller, address, request and result of each change, in ccdb and as `vcap.cc.events` (protocol 2.4)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from flask import Request, Response, g, request
from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError

from components.common import log
from components.controller.accounts.auth import Caller
from components.controller.accounts.events import NOBODY
from components.controller.api.context import current_worker
from components.controller.client_address import origin, subscriber
from components.controller.db.models import Event
from components.controller.errors import Code

_CHANGING = ("POST", "PUT", "DELETE", "PATCH")
# Segments of paths that are secrets: view to the segment's parameter.
_SECRET_PARTS = {
    "services_v1.show_token": "text",
    "services_v1.forget_token": "text",
    "staging.deliver": "upload_id",
}
_KEEP = insert(Event).inline()
logger = log.get(__name__)


def client_address(of: Request) -> str:
    """Return the client's address of a request, by the headers of trusted routers."""
    return origin(of.remote_addr, of.headers.get("X-Forwarded-For", ""), current_worker().routers)[:64]


def client_network(of: Request) -> str:
    """Return the key by which the limits of a client's address count."""
    return subscriber(client_address(of))


def shown_path(of: Request) -> str:
    """Return a request's path without its secret segment."""
    name = _SECRET_PARTS.get(of.endpoint or "")
    secret = (of.view_args or {}).get(name) if name else None
    return (of.path.replace(str(secret), log.MASK) if secret else of.path)[:512].replace("\0", "")


def record(response: Response) -> None:
    """Write an event for a call that changes something, including a failed one."""
    if request.method not in _CHANGING or request.url_rule is None or response.status_code == 429:
        return
    if g.get("error_code") == Code.NO_DATABASE:
        # The event could not be written either, and the client would wait for the attempt.
        return
    caller: Caller | None = g.get("caller")
    who = (caller.by or caller.email) if caller is not None else _claimed(response)
    if not who:
        return
    event: dict[str, Any] = {
        "at": time.time(),
        "who": who,
        "acting_for": caller.email if caller is not None and caller.by else "",
        "method": request.method,
        "path": shown_path(request),
        "status": response.status_code,
        "app": _app()[:255],
        "origin": client_address(request),
        "outcome": _outcome(response.status_code),
    }
    try:
        with current_worker().db.connection() as connection:
            connection.execute(_KEEP, event)
    except SQLAlchemyError:
        logger.exception("event_not_kept")
    current_worker().bus.publish("vcap.cc.events", _line(event))


def _line(event: Mapping[str, Any]) -> list[Any]:
    result = "SUCCEEDED" if event["status"] < 400 else "FAILED"
    return [event["at"], "USER", event["who"], f"{event['method']}:{event['path']}", result]


def _claimed(response: Response) -> str:
    """Return the user that a login or a registration names, `anonymous` for other refusals, empty for a call without a record.

    Gateways and stagers show passwords of their own and are no users: their successful calls are not recorded.
    """
    if response.status_code >= 400 and _too_many():
        return ""
    email: object = None
    if request.endpoint == "users.token":
        email = (request.view_args or {}).get("email")
    elif request.endpoint == "users.create":
        email = _member("email")
    if isinstance(email, str) and email:
        return email.strip().lower()[:255].replace("\0", "")
    return NOBODY if response.status_code >= 400 else ""


def _too_many() -> bool:
    """Return whether enough refusals of anonymous callers are recorded: from this address, or from all."""
    limits, now = current_worker().limits, time.monotonic()
    return bool(limits.refused.take(client_network(request), now) or limits.refused_all.take("", now))


def _app() -> str:
    if request.endpoint == "apps.create":
        name = _member("name")
        return name.replace("\0", "") if isinstance(name, str) else ""
    if "/apps/<name>" in str(request.url_rule):
        return str((request.view_args or {}).get("name", "")).replace("\0", "")
    return ""


def _member(name: str) -> object:
    # Only a body that the route has read: one that was refused unread is not parsed.
    body = g.get("body")
    return body.get(name) if isinstance(body, dict) else None


def _outcome(status: int) -> str:
    if status < 400:
        return "succeeded"
    code: Code | None = g.get("error_code")
    if code is None:
        return "failed"
    # Without the facts, because they repeat the request.
    text = code.text.partition("{")[0].rstrip(" :'")
    return f"failed: {code} {text}"
