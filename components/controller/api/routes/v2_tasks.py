"""Routes of an application's one-off tasks and their lines (docs/platform.md)."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from components.controller.api.context import current_worker, json_object, require_user
from components.controller.api.routes.v2_logs import Asked, asked_for, read, to_json
from components.controller.db.models_records import OPEN_TASKS
from components.controller.logs.merge import Line, Reading, Source, Window, joined, merge, newest

blueprint = Blueprint("v2_tasks", __name__, url_prefix="/v2/apps/<name>/tasks")
# The most answers of a DEA that are joined into one.
MOST_ANSWERS = 20


@blueprint.get("")
def listing(name: str) -> Response:
    """List an application's one-off tasks, newest first."""
    return jsonify({"tasks": current_worker().tasks.listing(require_user(), name)})


@blueprint.post("")
def run(name: str) -> tuple[Response, int]:
    """Run a command once beside an application, with its code, environment and services."""
    return jsonify(current_worker().tasks.create(require_user(), name, json_object())), 202


@blueprint.get("/<id_>")
def show(name: str, id_: str) -> Response:
    """Show a task."""
    return jsonify(current_worker().tasks.show(require_user(), name, id_))


@blueprint.delete("/<id_>")
def stop(name: str, id_: str) -> Response:
    """Stop a task; one that has ended stays as it is."""
    return jsonify(current_worker().tasks.stop(require_user(), name, id_))


@blueprint.get("/<id_>/logs")
def logs(name: str, id_: str) -> Response:
    """Return the last lines of a task, or those after a cursor; once its DEA has dropped them, those of the stored tail."""
    known = current_worker().tasks.log_of(require_user(), name, id_)
    kind = f"task {id_[:32]}"
    asked = asked_for(kind, ("tail", "cursor", "wait"))
    login, password = [*known.credentials, "", ""][:2]
    source = Source(id_, 0, known.uri, login, password)
    sources = [source] if known.uri else []
    if known.state in OPEN_TASKS:
        reading = read(asked, sources)
    else:
        # No further lines will come.
        reading = _last(Asked(asked.tail, 0.0, asked.place, None), source, known.tail)
    # The state before the lines were read: the lines of a task that ends meanwhile come with the next answer.
    return jsonify({**to_json(kind, reading), "state": known.state})


def _last(asked: Asked, source: Source, tail: str) -> Reading:
    """Return the remaining lines of an ended task, so that a reader that learns of the end has all lines."""
    reading = read(asked, [source] if source.uri else [])
    if not reading.answered:
        texts = tail.splitlines()
        lines = [Line(n, 0.0, "stdout", text) for n, text in enumerate(texts, 1)]
        # Its first line is treated as the task's first.
        window = Window(source.instance, 1, len(texts), lines)
        if asked.place is None:
            return newest([(source, window)], asked.tail)
        return merge(asked.place, [(source, window)])
    if asked.place is None:
        return reading
    more = reading
    for _ in range(MOST_ANSWERS):
        if not more.lines:
            break
        more = current_worker().log_reader.follow([source], more.place, 0.0)
        reading = joined(reading, more) if more.answered else reading
    return reading
