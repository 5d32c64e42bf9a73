"""Routes of packages and droplets for stagers and DEAs (protocol 7.5 and 8.2)."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from flask import Blueprint, Response, request

from components.common import log
from components.controller.api.context import (
    check_basic_auth,
    current_worker,
    empty_response,
    insiders_only,
    stored,
)
from components.controller.apps import revisions
from components.controller.apps import rows as app_rows
from components.controller.apps.storage_quota import check_storage
from components.controller.db.models import Upload
from components.controller.errors import bad_request, no_app
from components.controller.storage import references
from components.controller.storage.store import SHA1, copy, sha1_of

blueprint = Blueprint("staging", __name__)
blueprint.before_request(insiders_only)
FIELD = "upload[droplet]"
logger = log.get(__name__)


@blueprint.get("/staged_droplets/<int:app_id>/<digest>")
def droplet(app_id: int, digest: str) -> Response:
    """Return a droplet to a DEA, which is known by its address alone."""
    controller = current_worker()
    with controller.db.session() as session:
        app = app_rows.by_id(session, app_id)
        if app is None or not SHA1.fullmatch(digest) or not revisions.has_droplet(session, app, digest):
            raise no_app()
    sent = stored(controller.store.droplet(digest), "application/octet-stream")
    sent.set_etag(digest)
    return sent


@blueprint.get("/staging/app/<int:app_id>")
def package(app_id: int) -> Response:
    """Return an application's package to a stager."""
    controller = current_worker()
    refusal = check_basic_auth(controller.config.staging_user, controller.config.staging_password)
    if refusal is not None:
        return refusal
    with controller.db.session() as session:
        app = app_rows.by_id(session, app_id)
        digest = app.package_hash if app else None
    if digest is None:
        raise no_app()
    return stored(controller.store.package(digest), "application/zip")


@blueprint.post("/staging/droplet/<int:app_id>/<upload_id>")
def deliver(app_id: int, upload_id: str) -> Response:
    """Store a droplet from a stager, once."""
    controller = current_worker()
    refusal = check_basic_auth(controller.config.staging_user, controller.config.staging_password)
    if refusal is not None:
        return refusal
    with controller.db.session() as session:
        permission = session.get(Upload, upload_id)
        if permission is None or permission.app_id != app_id or permission.droplet_hash is not None:
            raise bad_request("this upload is not expected")
    file = request.files.get(FIELD)
    if file is None:
        raise bad_request(f"the field {FIELD} is missing")
    with controller.store.incoming() as scratch:
        size, digest = controller.store.run(lambda: _take(file.stream, scratch))
        _keep(upload_id, scratch, digest)
    logger.info("droplet_delivered", app=app_id, sha1=digest, bytes=size)
    return empty_response()


def _take(stream: IO[bytes], scratch: Path) -> tuple[int, str]:
    with stream as reader, scratch.open("wb") as writer:
        size = copy(reader, writer)
    return size, sha1_of(scratch)


def _keep(upload_id: str, scratch: Path, digest: str) -> None:
    controller = current_worker()
    with controller.db.session() as session:
        references.lock_files(controller.db, session)
        permission = session.get(Upload, upload_id, with_for_update=True)
        if permission is None or permission.droplet_hash is not None:
            raise bad_request("this upload is not expected")
        place = controller.store.droplet(digest)
        app = app_rows.by_id(session, permission.app_id)
        if app is None:
            raise no_app()
        check_storage(session, controller.config, controller.store, app, new=scratch, place=place)
        controller.store.keep(scratch, place)
        permission.droplet_hash = digest
