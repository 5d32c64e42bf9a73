"""Staging: the request to a stager, the wait, and the record of the result (protocol 7.5 and 1.8, step 12).

The state is in ccdb, so that parallel requests, to any controllers, build once: one of them asks the stager, the others
wait for it. A controller that dies stops renewing its row, and another request takes over.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from prometheus_client import Counter, Histogram
from sqlalchemy import bindparam, delete, update
from sqlalchemy.orm import Session

from components.common import log
from components.common.bus.client import BusNoAnswerError
from components.common.bus.messages import StagingReply, StagingRequest
from components.common.bus.thread import BusThread
from components.common.errors import BusError, IngotError
from components.common.states import AppState, PackageState
from components.controller.accounts import quotas
from components.controller.apps.messages import to_staging_json
from components.controller.apps.rows import built_from, by_id, touch
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App, Staging, StagingState, Upload
from components.controller.errors import ApiError, Code, no_app
from components.controller.rolling_updates import rows as update_rows
from components.controller.staging.live_logs import LiveLogs
from components.controller.storage import references
from components.controller.storage.store import Store

STAGINGS = Counter("ingot_controller_stagings_total", "Stagings asked for, by how they ended.", ["result"])
SECONDS = Histogram(
    "ingot_controller_staging_seconds", "How long stagings took.", buckets=(1, 2, 5, 10, 20, 40, 60, 120, 300)
)
# A running row that was not renewed for this long belongs to a controller that is gone.
ABANDONED_SECONDS = 10.0
RENEW_SECONDS = 2.0
LOOK_SECONDS = 0.3
# The time for repeated requests: a stager or the bus may be restarting.
ASK_AGAIN_SECONDS = 10.0
TAIL_LINES = 20
# The beginning of a full stager's answer in releases without `retry`. Controllers are rolled before the last stager.
QUEUE_FULL = "queue failed"
_CANCEL = (
    update(Staging)
    .where(Staging.app_id == bindparam("of"), Staging.state == StagingState.RUNNING)
    .values(state=StagingState.CANCELLED, error="the application was stopped by another request")
)
logger = log.get(__name__)


class _StagingFailedError(IngotError):
    """The failure of a staging; `again`: it is not the application's fault."""

    def __init__(self, reason: str, task_log: str = "", *, again: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.task_log = task_log
        self.again = again


@dataclass(frozen=True, slots=True)
class _Claim:
    """A request's claim of a staging; `request` is None where another request is building already."""

    app_id: int
    task: str
    built_from: str
    upload: str = ""
    request: StagingRequest | None = None


@dataclass(frozen=True, slots=True)
class StagingCallbacks:
    """The actions at the end of a staging, in its transaction; the application's row is locked.

    `staged` is called when the application is staged, by this or another request. `failed` is called with the reason when
    the request's own staging fails by the application's fault; it returns True if it repaired the row: the application runs on.
    """

    staged: Callable[[Session, App], None]
    failed: Callable[[Session, App, str], bool] | None = None


class Stagings:
    """The stagings of applications.

    Args:
        stopping: set when this controller is told to end: requests under way are given up, clients repeat them.
    """

    def __init__(
        self,
        config: ControllerConfig,
        db: Database,
        store: Store,
        bus: BusThread,
        stopping: threading.Event,
    ) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._bus = bus
        self._stopping = stopping
        self.live = LiveLogs()

    def ensure(self, app_id: int, callbacks: StagingCallbacks) -> None:
        """Return when the application is staged and the callback is done.

        Raises:
            ApiError: APP_STAGING_ERROR with the reason and the end of the log;
                APP_NOT_FOUND when it was deleted meanwhile; ACCOUNT_TOO_MANY_STAGINGS.
        """
        try:
            while claim := self._claim(app_id, callbacks):
                if claim.request is None:
                    self._await(claim)
                elif self._build(claim, callbacks):
                    return
        except ApiError as error:
            if error.code == Code.ACCOUNT_TOO_MANY_STAGINGS and callbacks.failed is not None:
                self._refuse(app_id, callbacks.failed, error.description)
            raise

    def cancel(self, app_id: int) -> None:
        """Cancel a running staging, because its application was stopped."""
        with self._db.connection() as connection:
            connection.execute(_CANCEL, {"of": app_id})

    def last_log(self, app_id: int) -> str | None:
        """Return the log of the last staging, or so far of the running one; None when there was none."""
        with self._db.session() as session:
            row = session.get(Staging, app_id)
            if row is None:
                return None
            return self.live.text(app_id) if row.state == StagingState.RUNNING else row.log

    def _refuse(self, app_id: int, failed: Callable[[Session, App, str], bool], reason: str) -> None:
        """Remove the files that the next change would build."""
        with self._db.session() as session:
            app, now = by_id(session, app_id, lock=True), self._db.now(session)
            if app is None or app.package_state == PackageState.STAGED or under_way(session, app_id, now):
                # Another request was quicker, and its files are not touched.
                return
            package = app.package_hash
            failed(session, app, reason)
        references.release(self._db, self._store, packages=[package])

    def _claim(self, app_id: int, callbacks: StagingCallbacks) -> _Claim | None:
        with self._db.session() as session:
            app = by_id(session, app_id, lock=True)
            if app is None:
                raise no_app()
            if app.package_state == PackageState.STAGED and app.staged_package_hash:
                callbacks.staged(session, app)
                return None
            digest = built_from(app)
            if app.staged_from == digest and self._has_droplet(app):
                app.package_state = PackageState.STAGED
                callbacks.staged(session, app)
                return None
            now = self._db.now(session)
            row = session.get(Staging, app_id)
            if row is not None and row.state == StagingState.RUNNING and not silent(row.alive_at, now):
                return _Claim(app_id, row.task, row.built_from)
            limits = quotas.limits(session, self._config, app.owner_id, admin=app.owner.admin)
            quotas.check_builds(session.connection(), app, limits.builds, now - ABANDONED_SECONDS)
            task, upload = uuid.uuid4().hex, uuid.uuid4().hex
            session.merge(
                Staging(
                    app_id=app_id,
                    task=task,
                    built_from=digest,
                    state=StagingState.RUNNING,
                    started_at=now,
                    alive_at=now,
                    error="",
                    log="",
                )
            )
            # The next sweep removes a droplet without an application.
            session.execute(delete(Upload).where(Upload.app_id == app_id))
            session.add(Upload(id=upload, app_id=app_id, created_at=now))
            app.package_state = PackageState.PENDING
            return _Claim(app_id, task, digest, upload, self._request(app, upload))

    def _has_droplet(self, app: App) -> bool:
        return bool(app.staged_package_hash) and self._store.there(
            self._store.droplet(app.staged_package_hash or "")
        )

    def _request(self, app: App, upload: str) -> StagingRequest:
        user = f"{quote(self._config.staging_user, safe='')}:{quote(self._config.staging_password, safe='')}"
        base = f"http://{user}@{self._config.address}:{self._config.port}/staging"
        return StagingRequest(
            app_id=app.id,
            properties={
                "services": [to_staging_json(binding) for binding in app.bindings],
                "framework": app.framework,
                "runtime": app.runtime or None,
                "resources": {"memory": app.memory, "disk": app.disk_quota, "fds": app.file_descriptors},
                "environment": list(app.environment),
                "meta": dict(app.details),
            },
            download_uri=f"{base}/app/{app.id}",
            upload_uri=f"{base}/droplet/{app.id}/{upload}",
        )

    def _await(self, claim: _Claim) -> None:
        """Wait for another request's staging to end, or to be abandoned."""
        # A deadline by this machine's own clock, whatever the database's is set to.
        until = time.monotonic() + self._config.max_staging_seconds + ABANDONED_SECONDS
        while time.monotonic() < until:
            if self._stopping.wait(LOOK_SECONDS):
                raise _api_error("this controller is being stopped; repeat the request")
            with self._db.session() as session:
                row = session.get(Staging, claim.app_id)
                if row is None:
                    raise no_app()
                if row.task != claim.task or row.state == StagingState.DONE:
                    return
                if row.state in (StagingState.FAILED, StagingState.CANCELLED):
                    raise _api_error(row.error, row.log)
                if silent(row.alive_at, self._db.now(session)):
                    return
        raise _api_error(f"no result within {self._config.max_staging_seconds} seconds; repeat the request")

    def _build(self, claim: _Claim, callbacks: StagingCallbacks) -> bool:
        """Have an application staged; return False where it has changed meanwhile and must be staged again."""
        assert claim.request is not None
        begun = time.monotonic()
        self.live.forget(claim.app_id)
        logger.info("staging_asked", app=claim.app_id, task=claim.task)
        try:
            staged = self._succeed(claim, self._ask(claim), callbacks)
        except _StagingFailedError as error:
            STAGINGS.labels("interrupted" if error.again else "failed").inc()
            logger.warning(
                "staging_failed", app=claim.app_id, task=claim.task, reason=error.reason.partition("\n")[0]
            )
            self._fail(claim, error, callbacks)
            raise _api_error(error.reason, error.task_log) from error
        SECONDS.observe(time.monotonic() - begun)
        STAGINGS.labels("staged").inc()
        logger.info(
            "staging_done", app=claim.app_id, task=claim.task, seconds=round(time.monotonic() - begun, 2)
        )
        return staged

    def _ask(self, claim: _Claim) -> StagingReply:
        deadline = time.monotonic() + self._config.max_staging_seconds
        ask_until = time.monotonic() + ASK_AGAIN_SECONDS
        while True:
            asked = time.monotonic()
            try:
                reply = self._ask_once(claim, deadline - asked)
                if not (reply.retry or (reply.error or "").startswith(QUEUE_FULL)):
                    return reply
                reason = "too many applications are waiting to be staged"
                # Stagers are present and make progress.
                ask_until = deadline - 1
            except BusNoAnswerError as error:
                if time.monotonic() >= deadline - 1:
                    seconds = self._config.max_staging_seconds
                    raise _StagingFailedError(
                        f"no result within {seconds} seconds", self.live.text(claim.app_id)
                    ) from error
                reason = "no stager is available"
            except BusError:
                reason = "the message bus is away"
            if time.monotonic() >= ask_until:
                raise _StagingFailedError(f"{reason}; repeat the request later", again=True)
            self._rest(claim, 0.5)

    def _ask_once(self, claim: _Claim, seconds: float) -> StagingReply:
        future = self._bus.submit(
            self._bus.bus.request("staging", claim.request, StagingReply, timeout=max(seconds, 0.1))
        )
        renewed = time.monotonic()
        try:
            while True:
                try:
                    return future.result(0.25)
                except concurrent.futures.TimeoutError:
                    if future.done():
                        raise
                if time.monotonic() - renewed >= RENEW_SECONDS or self._stopping.is_set():
                    self._rest(claim, 0)
                    renewed = time.monotonic()
        finally:
            future.cancel()

    def _rest(self, claim: _Claim, seconds: float) -> None:
        """Renew the row, and check that the work is still wanted."""
        if self._stopping.wait(seconds):
            raise _StagingFailedError("this controller is being stopped; repeat the request", again=True)
        with self._db.session() as session:
            row = session.get(Staging, claim.app_id, with_for_update=True)
            if row is None:
                raise no_app()
            if row.task != claim.task or row.state != StagingState.RUNNING:
                raise _StagingFailedError(row.error or "another request took over", row.log)
            row.alive_at = self._db.now(session)

    def _succeed(self, claim: _Claim, reply: StagingReply, callbacks: StagingCallbacks) -> bool:
        task_log = reply.task_log
        if reply.error:
            raise _StagingFailedError(reply.error, task_log)
        with self._db.session() as session:
            references.lock_files(self._db, session)
            app = by_id(session, claim.app_id, lock=True)
            upload = session.get(Upload, claim.upload)
            row = session.get(Staging, claim.app_id)
            if app is None or row is None:
                raise no_app()
            if row.task != claim.task or row.state == StagingState.CANCELLED:
                raise _StagingFailedError(row.error or "another request took over", task_log)
            if app.package_state == PackageState.STAGED:
                # A rollback or the reversal of a change: the application runs with the droplet of that revision.
                raise _StagingFailedError("the application was changed back in the meantime; repeat the push")
            digest = upload.droplet_hash if upload else None
            if digest is None or not self._store.there(self._store.droplet(digest)):
                raise _StagingFailedError("the stager delivered no droplet", task_log)
            row.state, row.log = StagingState.DONE, task_log
            session.delete(upload)
            old = app.staged_package_hash
            # The next turn builds the changes that were made during this build.
            app.package_state = (
                PackageState.STAGED if built_from(app) == claim.built_from else PackageState.PENDING
            )
            app.staged_package_hash, app.staged_from = digest, claim.built_from
            touch(app)
            staged = app.package_state == PackageState.STAGED
            if staged:
                callbacks.staged(session, app)
        if old != digest:
            references.release(self._db, self._store, droplets=[old])
        return staged

    def _fail(self, claim: _Claim, error: _StagingFailedError, callbacks: StagingCallbacks) -> None:
        """Record the failure, and remove the droplet and the permission to deliver one."""
        droplets: list[str | None] = []
        package = None
        with self._db.session() as session:
            app = by_id(session, claim.app_id, lock=True)
            row = session.get(Staging, claim.app_id)
            if app is None or row is None or row.task != claim.task:
                return
            if row.state != StagingState.CANCELLED:
                row.state = StagingState.FAILED
            row.error, row.log = error.reason, error.task_log or self.live.text(claim.app_id)
            upload = session.get(Upload, claim.upload)
            if upload is not None:
                droplets.append(upload.droplet_hash)
                session.delete(upload)
            package = app.package_hash
            if error.again or row.state == StagingState.CANCELLED:
                app.package_state = PackageState.PENDING
            elif callbacks.failed is None or not callbacks.failed(session, app, error.reason):
                app.package_state = PackageState.FAILED
                droplets.append(app.staged_package_hash)
                app.staged_package_hash = app.staged_from = None
                app.state = AppState.STOPPED
                update_rows.close(session, app.id, "the application was stopped", self._db.now(session))
                touch(app)
        references.release(self._db, self._store, packages=[package], droplets=droplets)


def under_way(session: Session, app_id: int, now: float) -> bool:
    """Return whether a living controller is staging an application."""
    row = session.get(Staging, app_id)
    return row is not None and row.state == StagingState.RUNNING and not silent(row.alive_at, now)


def silent(alive_at: float, now: float, seconds: float = ABANDONED_SECONDS) -> bool:
    """Return whether a row was not renewed for that long, or is that far in the future, because the clock was set back."""
    return abs(now - alive_at) >= seconds


def _api_error(reason: str, task_log: str = "") -> ApiError:
    tail = "\n".join(task_log.splitlines()[-TAIL_LINES:])
    return ApiError(Code.APP_STAGING_ERROR, f"{reason}\n{tail}" if tail and tail not in reason else reason)
