"""Routes of an application's instances, their statistics and their files (protocol 1.10 and 1.12)."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import httpx
from flask import Blueprint, Response, jsonify, request

from components.common import log
from components.common.digits import whole_number
from components.common.plain_http import NO_TLS
from components.common.states import AppState
from components.controller.api.context import current_worker, holding, require_user
from components.controller.apps import summary
from components.controller.apps.summary import AppSummary
from components.controller.errors import ApiError, Code
from components.controller.instances.queries import LARGEST_INDEX

blueprint = Blueprint("files", __name__)
FILE_SECONDS = httpx.Timeout(30, connect=3)
_PASSED = ("Content-Range", "Accept-Ranges")
logger = log.get(__name__)


@blueprint.get("/apps/<name>/instances")
def instances(name: str) -> Response:
    """List the expected instances, in the order of their index."""
    return jsonify({"instances": current_worker().instance_queries.instances(_app(name))})


@blueprint.get("/apps/<name>/stats")
def stats(name: str) -> Response:
    """Return the statistics of the running instances."""
    return jsonify(current_worker().instance_queries.stats(_app(name)))


@blueprint.get("/apps/<name>/crashes")
def crashes(name: str) -> Response:
    """List the crashed instances."""
    return jsonify({"crashes": current_worker().instance_queries.crashes(_app(name))})


@blueprint.get("/apps/<name>/instances/<instance>/files", defaults={"path": ""})
@blueprint.get("/apps/<name>/instances/<instance>/files/<any_path:path>")
def files(name: str, instance: str, path: str) -> Response:
    """Return a file or a folder's listing from the DEA that has the instance."""
    app = _app(name)
    if path == "logs/staging.log":
        text = current_worker().stagings.last_log(app.id)
        return Response(text or "", status=404 if text is None else 200, mimetype="text/plain")
    if app.state != AppState.STARTED:
        raise ApiError(Code.APP_STOPPED)
    index = whole_number(instance, LARGEST_INDEX)
    if index is not None and index >= app.instances:
        raise ApiError(Code.APP_INSTANCE_NOT_FOUND, instance)
    found = current_worker().instance_queries.locate(app, instance)
    if found is None or urlsplit(found.file_uri).scheme not in ("http", "https"):
        raise ApiError(Code.APP_FILE_ERROR, path)
    url = f"{found.file_uri}{found.staged}/{quote(path.lstrip('/'))}"
    user_name, password = [*found.credentials, "", ""][:2]
    return _passed_on(url, (user_name, password), path)


def _passed_on(url: str, credentials: tuple[str, str], path: str) -> Response:
    headers = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
    verify = NO_TLS if url.startswith("http:") else True
    client = httpx.Client(auth=credentials, timeout=FILE_SECONDS, trust_env=False, verify=verify)
    try:
        answer = client.send(client.build_request("GET", url, headers=headers), stream=True)
    except httpx.HTTPError as error:
        client.close()
        logger.warning("file_not_fetched", reason=type(error).__name__)
        raise ApiError(Code.APP_FILE_ERROR, path) from error
    if answer.status_code not in (200, 206):
        answer.close()
        client.close()
        raise ApiError(Code.APP_FILE_ERROR, path)

    def body() -> Iterator[bytes]:
        yield from answer.iter_bytes()

    response = Response(body(), status=answer.status_code, mimetype="text/plain")
    for name in _PASSED:
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    if "Content-Length" in answer.headers and "Content-Encoding" not in answer.headers:
        response.headers["Content-Length"] = answer.headers["Content-Length"]
    # Also called when the client leaves before the end.
    response.call_on_close(answer.close)
    response.call_on_close(client.close)
    return holding(response, current_worker().held.bodies)


def _app(name: str) -> AppSummary:
    caller = require_user()
    with current_worker().db.connection() as connection:
        return summary.find(connection, caller, name)
