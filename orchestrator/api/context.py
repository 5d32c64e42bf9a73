"""The context of request handlers: the daemon's parts, the caller, the body and the query."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import msgspec
from flask import Response, current_app, g, jsonify, request

from components.common.digits import whole_number
from components.common.identity import Identity
from orchestrator.api.auth import Authenticator
from orchestrator.api.door import Attempts
from orchestrator.config import OrchestratorConfig
from orchestrator.errors import RefusedError
from orchestrator.images import Images
from orchestrator.jobs.engine import Engine
from orchestrator.jobs.journal import Journal
from orchestrator.services import Services

EXTENSION = "ingot"
T = TypeVar("T", bound=msgspec.Struct)


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of bodies; unknown members are refused by name."""


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """The daemon's parts."""

    config: OrchestratorConfig
    identity: Identity
    services: Services
    journal: Journal
    engine: Engine
    images: Images
    authenticator: Authenticator
    stopping: threading.Event
    attempts: Attempts = field(default_factory=Attempts)
    begun: float = field(default_factory=time.monotonic)


def current_orchestrator() -> Orchestrator:
    """Return the parts of the daemon that handles this request."""
    return cast("Orchestrator", current_app.extensions[EXTENSION])


def operator() -> str:
    """Return the caller: an administrator's email, or `operator`."""
    return cast("str", g.caller)


def body(kind: type[T]) -> T:
    """Return the body; an empty one is an empty object.

    Raises:
        RefusedError: 400, naming what is wrong.
    """
    raw = request.get_data(cache=True).strip() or b"{}"
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(f"the body: {_first_lower(str(error))}") from error


def number(name: str, default: int, lowest: int, highest: int) -> int:
    """Return a number of the query.

    Raises:
        RefusedError: 400 where it is none, or not within its bounds.
    """
    text = request.args.get(name)
    if text is None:
        return default
    found = whole_number(text, highest)
    if found is None or found < lowest:
        raise RefusedError(f"{name}: must be a number from {lowest} to {highest}, not {text[:40]!r}")
    return found


def accepted(job_id: int) -> tuple[Response, int]:
    """Return the answer for a job that was queued."""
    return jsonify({"job": current_orchestrator().journal.job(job_id)}), 202


def submit(kind: str, job_request: dict[str, Any], *about: str) -> tuple[Response, int]:
    """Queue the caller's operation, and return the answer with its job."""
    return accepted(current_orchestrator().engine.submit(kind, job_request, operator(), about))


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
