"""The common part of web daemons' Flask applications: settings, one shape of errors, and the record of requests."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flask import Flask, Response, g, jsonify, request
from prometheus_client import Counter, Histogram

from components.common import log

logger = log.get(__name__)


def new_app(name: str) -> Flask:
    """Return an application without routes; JSON keeps the order of its members, and a final slash changes no route."""
    app = Flask(name, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.url_map.strict_slashes = False
    return app


def error_response(status: int, code: int, description: str) -> tuple[Response, int]:
    """Return an error in the one shape: `{"code": 100, "description": "…"}`."""
    return jsonify({"code": code, "description": description}), status


def begin_request() -> None:
    """Note the beginning of a request, whose caller is not known yet."""
    g.begun = time.monotonic()
    g.caller = None


class RequestRecord:
    """The record of a daemon's requests: metrics of all, and a line of the log for those that the daemon wants one for.

    Args:
        component: as in the names `ingot_<component>_requests_total` and `ingot_<component>_request_seconds`.
        buckets: of the seconds.
    """

    def __init__(self, component: str, buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS) -> None:
        self._requests = Counter(
            f"ingot_{component}_requests_total", "Requests answered.", ["method", "route", "status"]
        )
        self._seconds = Histogram(
            f"ingot_{component}_request_seconds",
            "Duration of requests.",
            ["method", "route"],
            buckets=buckets,
        )

    def observe(self, response: Response) -> float:
        """Count the present request, and return its seconds until now."""
        rule = str(request.url_rule) if request.url_rule else "unknown"
        now = time.monotonic()
        seconds: float = now - g.get("begun", now)
        self._requests.labels(request.method, rule, str(response.status_code)).inc()
        self._seconds.labels(request.method, rule).observe(seconds)
        return seconds


def log_request(
    response: Response, seconds: float, *, path: str, user: str | None, remote: str | None
) -> None:
    """Write the present request's line to the log."""
    logger.info(
        "request",
        method=request.method,
        path=path,
        status=response.status_code,
        ms=round(seconds * 1000),
        user=user,
        remote=remote,
    )
