"""Routes of log lines: those of instances, and the platform's own (docs/platform.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, request

from components.common.bus.operation_messages import LogQuery
from components.common.errors import BusError
from components.controller.api.context import current_worker, require_admin, require_user
from components.controller.apps import summary
from components.controller.errors import ApiError, Code, bad_request
from components.controller.logs import platform_logs
from components.controller.logs.merge import MOST_LINES, Reading, Source, valid_place
from components.controller.logs.reader import LONGEST_WAIT
from components.controller.requests.query import Query

blueprint = Blueprint("v2_logs", __name__, url_prefix="/v2")
TAIL = 100
MOST_INDEX = 1 << 20
MOST_PLATFORM_LINES = 2000
_FAR = 1e11


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of a request for lines; `place` is None for a first request."""

    tail: int
    wait: float
    place: dict[str, int] | None
    index: int | None


@blueprint.get("/apps/<name>/logs")
def app_logs(name: str) -> Response:
    """Return the last lines of an application's instances, or those after a cursor."""
    controller, caller = current_worker(), require_user()
    with controller.db.connection() as connection:
        app = summary.find(connection, caller, name)
    kind = f"logs {app.id}"
    asked = asked_for(kind, ("tail", "cursor", "wait", "instance"))
    sources = controller.instance_queries.log_sources(app, asked.index)
    return jsonify(to_json(kind, read(asked, sources)))


@blueprint.get("/logs")
def platform() -> Response:
    """Return the last lines of the platform's components, oldest first; for administrators."""
    require_admin()
    query = Query(request.args, ("component", "host", "since", "level", "contains", "limit"))
    limit = query.number("limit", 200, 1, MOST_PLATFORM_LINES)
    wanted = LogQuery(
        component=query.text("component"),
        host=query.text("host"),
        since=query.seconds("since", 0.0, _FAR),
        level=query.choice("level", platform_logs.LEVELS),
        contains=query.text("contains"),
        limit=limit,
    )
    bus = current_worker().bus
    try:
        replies, silent = bus.run(platform_logs.ask(bus.bus, wanted))
    except BusError as error:
        raise ApiError(Code.SYSTEM_ERROR) from error
    return jsonify({"lines": platform_logs.merge(replies, limit), "silent": silent})


def asked_for(kind: str, known: tuple[str, ...]) -> Asked:
    """Return the parameters of a request for lines.

    Args:
        kind: of its cursors.
        known: the permitted parameters.

    Raises:
        ApiError: BAD_REQUEST, naming the parameter.
    """
    query = Query(request.args, known)
    place = None
    if (value := query.cursor("cursor", current_worker().cursors, kind, longest=16_384)) is not None:
        place = valid_place(value)
        if place is None:
            raise bad_request("cursor: this is not a cursor of this listing")
    index = query.number("instance", -1, 0, MOST_INDEX) if "instance" in known else -1
    return Asked(
        tail=query.number("tail", TAIL, 0, MOST_LINES),
        wait=query.seconds("wait", 0.0, LONGEST_WAIT),
        place=place,
        index=None if index < 0 else index,
    )


def read(asked: Asked, sources: list[Source]) -> Reading:
    """Return the last lines, or those after a reader's place."""
    reader = current_worker().log_reader
    if asked.place is None:
        return reader.tail(sources, asked.tail)
    return reader.follow(sources, asked.place, asked.wait)


def to_json(kind: str, reading: Reading) -> dict[str, Any]:
    """Return the answer's JSON, with the cursor of the next request."""
    cursor = current_worker().cursors.make(kind, reading.place)
    return {"lines": reading.lines, "missed": reading.missed, "cursor": cursor}
