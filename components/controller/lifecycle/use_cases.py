"""The life of an application: create, update, start, stop, delete (protocol 1.8).

Transactions come first and are short; messages on the bus follow. A start is written to ccdb only once the droplet
exists: an application whose start fails, or whose controller dies meanwhile, was never started.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from components.common import log
from components.common.bus.messages import DeaStart, HmRequest
from components.common.states import AppState, PackageState
from components.controller.accounts.auth import Caller
from components.controller.apps import revisions, summary
from components.controller.apps import rows as app_rows
from components.controller.apps.change_plan import AppSpec, check_names
from components.controller.apps.messages import start_message
from components.controller.apps.revisions import Released
from components.controller.apps.storage_quota import check_storage
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App
from components.controller.errors import ApiError, Code, invalid_app, no_app
from components.controller.instances.dispatcher import Dispatcher
from components.controller.lifecycle.changes import Change, Changes
from components.controller.rolling_updates import rows as update_rows
from components.controller.rolling_updates.runner import RollingUpdates
from components.controller.services.broker import ServiceBroker
from components.controller.staging.stagings import StagingCallbacks, Stagings, under_way
from components.controller.storage import references
from components.controller.storage.store import Store

logger = log.get(__name__)


class Lifecycle:
    """The operations on applications."""

    def __init__(
        self,
        config: ControllerConfig,
        db: Database,
        store: Store,
        *,
        stagings: Stagings,
        dispatcher: Dispatcher,
        services: ServiceBroker,
        rolling_updates: RollingUpdates,
    ) -> None:
        self._config = config
        self._db = db
        self._store = store
        self._stagings = stagings
        self._dispatcher = dispatcher
        self._services = services
        self._rolling_updates = rolling_updates
        self._changes = Changes(config, db, services, dispatcher.pool)

    def create(self, caller: Caller, body: Mapping[str, Any]) -> str:
        """Create an application; return its name.

        Raises:
            ApiError: the codes of protocol 1.8; then there is no row.
        """
        name = body.get("name")
        if not isinstance(name, str):
            raise invalid_app("name: want a string")
        now = int(time.time())
        fresh = self._changes.bind_new(caller, None, body)
        try:
            with self._services.kept(fresh), self._db.session() as session:
                target = self._changes.plan_new(session, caller, name, body)
                app = App(owner_id=caller.id, name=name, created_at=now, updated_at=now, bindings=[])
                session.add(app)
                app_rows.apply(session, app, AppSpec(name=name), target)
                self._services.settle(session, app, target.services, fresh)
        except IntegrityError as error:
            raise invalid_app(f"there is an application {name!r} already") from error
        return name

    def update(self, caller: Caller, name: str, body: Mapping[str, Any]) -> None:
        """Change an application; return when it is staged and its starts are sent.

        Raises:
            ApiError: the codes of protocol 1.8, APP_STAGING_ERROR when staging fails.
        """
        change = self._changes.change(caller, name, body)
        if change.after.state == AppState.STOPPED:
            self._stagings.cancel(change.app_id)
        self._act(change, _who(caller))

    def roll(self, caller: Caller, name: str, body: Mapping[str, Any]) -> None:
        """Stage if necessary, and open a rolling update; return when it has begun (protocol 1.11).

        Raises:
            ApiError: APP_STOPPED for a stopped application, LOCKING_ERROR, APP_NO_RESOURCES without any DEA,
                APP_STAGING_ERROR; then its instances run on.
        """
        with self._db.session() as session:
            app = app_rows.find(session, caller, name, lock=True)
            if app.state != AppState.STARTED:
                raise ApiError(Code.APP_STOPPED)
            meta = body.get("meta")
            given = meta.get("version") if isinstance(meta, Mapping) else None
            if given is not None and given != app.lock_version:
                raise ApiError(Code.LOCKING_ERROR, given)
            app.lock_version += 1
            app_rows.restage_if_due(app, running=True)
            revisions.adopt(session, app)
            app_id, package = app.id, app.package_hash
        self._check_deas(app_id)
        self._roll(app_id, None, _who(caller), package)

    def change_and_roll(self, caller: Caller, name: str, body: Mapping[str, Any]) -> None:
        """Change a started application and open a rolling update to the result; return when it has begun.

        Members that the body does not name stay as they are, services and state included. A failure before the first new
        instance is started leaves the application as it was.

        Raises:
            ApiError: as `update` and `roll`.
        """
        wished = {key: value for key, value in body.items() if key != "state"}
        with self._db.session() as session:
            app = app_rows.find(session, caller, name)
            if app.state != AppState.STARTED:
                raise ApiError(Code.APP_STOPPED)
            check_names(wished, app_rows.spec(session, app))
            app_id = app.id
        self._check_deas(app_id)
        try:
            change = self._changes.change(caller, name, wished, rolls=True)
        except ApiError as error:
            self._refuse(caller, name, error)
            raise
        with self._db.session() as session:
            app = app_rows.find(session, caller, name, lock=True)
            app_rows.restage_if_due(app, running=True)
            package = app.package_hash
        self._roll(app_id, change, _who(caller), package)

    def _refuse(self, caller: Caller, name: str, error: ApiError) -> None:
        """Remove the files that wait for a refused change; files that are being staged belong to another request."""
        with self._db.session() as session:
            app = app_rows.find(session, caller, name, lock=True)
            now = self._db.now(session)
            if (
                app.state == AppState.STARTED
                and app.package_state != PackageState.STAGED
                and not under_way(session, app.id, now)
            ):
                update_rows.refuse(session, app, _who(caller), str(error), now)

    def _roll(self, app_id: int, change: Change | None, by: str, package: str | None) -> None:
        """Stage if necessary, and open a rolling update to `package`, or to a later upload."""
        begun: list[Released] = []
        superseded: list[ApiError] = []

        def staged(session: Session, app: App) -> None:
            known = revisions.current(session, app)
            if known is not None and app.package_hash == known.package != package:
                # The upload was replaced before its staging began.
                superseded.append(
                    ApiError(
                        Code.APP_STAGING_ERROR,
                        "the application was changed back in the meantime; repeat the push",
                    )
                )
            elif app.state == AppState.STARTED:
                begun.append(update_rows.begin(session, app, by, self._db.now(session)))

        with self._changes.undoing(change, by) as failed:
            self._stagings.ensure(app_id, StagingCallbacks(staged, failed))
            if superseded:
                raise superseded[0]
        if not begun:
            # Another request has stopped it at the last moment.
            raise ApiError(Code.APP_STOPPED)
        self._rolling_updates.wake()
        self._dispatcher.changed(app_id)
        if change is not None and change.after.uris != change.before.uris:
            self._reroute(app_id)
        self._release(begun[0])

    def _reroute(self, app_id: int) -> None:
        """Send the DEAs the routes of an application: its instances of before an update serve them as well."""
        with self._db.session() as session:
            app = app_rows.by_id(session, app_id)
            message = start_message(app, self._config, self._store) if app is not None else None
        if message is not None:
            self._dispatcher.update(message)

    def roll_back(self, caller: Caller, name: str, number: int | None) -> bool:
        """Return an application to an earlier revision; return True where an update was opened for it.

        Raises:
            ApiError: APP_INVALID, APP_NOT_FOUND.
        """
        with self._db.session() as session:
            app = app_rows.find(session, caller, name, lock=True)
            app_id, rolls = app.id, app.state == AppState.STARTED
            old = Released([app.package_hash], [app.staged_package_hash])
            update_rows.roll_back(session, app, _who(caller), self._db.now(session), number)
        if rolls:
            self._rolling_updates.wake()
        else:
            self._stagings.cancel(app_id)
        self._dispatcher.changed(app_id)
        self._release(old)
        return rolls

    def delete(self, caller: Caller, name: str) -> None:
        """Stop an application, and delete it with its routes and files.

        Raises:
            ApiError: APP_NOT_FOUND.
        """
        with self._db.session() as session:
            app = app_rows.find(session, caller, name, lock=True)
            app_id = app.id
            released = revisions.files(session, app)
            _, services = summary.attached(session.connection(), app_id)
            gone = self._services.drop(session, app.bindings) if services else []
            # The tables' own rules delete all other rows of the application.
            session.delete(app)
        self._dispatcher.stop(app_id)
        self._dispatcher.changed(app_id)
        self._services.unbind(gone)
        self._release(released)
        logger.info("app_deleted", app=app_id)

    def keep_package(self, app_id: int, scratch: Path, digest: str) -> None:
        """Store a finished package as an application's; the replaced one is deleted unless it has another owner.

        Raises:
            ApiError: APP_NOT_FOUND when the application was deleted meanwhile;
                ACCOUNT_NOT_ENOUGH_STORAGE when its owner stores too much.
        """
        with self._db.session() as session:
            references.lock_files(self._db, session)
            app = app_rows.by_id(session, app_id, lock=True)
            if app is None:
                raise no_app()
            place = self._store.package(digest)
            check_storage(session, self._config, self._store, app, new=scratch, place=place)
            self._store.keep(scratch, place)
            old = app.package_hash
            if old == digest:
                return
            app.package_hash, app.package_state = digest, PackageState.PENDING
            app_rows.touch(app)
        references.release(self._db, self._store, packages=[old])

    def requested(self, request: HmRequest) -> None:
        """Handle a health manager's request if it still fits the desired state (protocol 2.4)."""
        with self._db.session() as session:
            app = app_rows.by_id(session, request.droplet)
            message = start_message(app, self._config, self._store) if app else None
            rolling = update_rows.running(session, request.droplet) is not None
        if rolling:
            # The controller that works on the update handles every index.
            return
        if request.op == "STOP":
            if app is None:
                self._dispatcher.stop(request.droplet)
            elif request.last_updated == app.updated_at and request.instances:
                self._dispatcher.stop(request.droplet, instances=request.instances)
            return
        if request.op != "START" or app is None or message is None:
            return
        if app.state != AppState.STARTED or app.version != request.version or not message.sha1:
            return
        indices = [i for i in request.indices or [] if 0 <= i < app.instances]
        self._dispatcher.start(
            msgspec.structs.replace(message, flapping=request.flapping), indices, patience=0
        )

    def _act(self, change: Change, by: str) -> None:
        app_id, actions = change.app_id, change.actions
        if actions.stop:
            self._dispatcher.stop(app_id)
            self._dispatcher.changed(app_id)
            return
        if actions.start:
            self._start(change, by)
            return
        if not actions.any:
            return
        with self._db.session() as session:
            app = app_rows.by_id(session, app_id)
            if app is None:
                raise no_app()
            message = start_message(app, self._config, self._store)
            rolling = update_rows.running(session, app_id) is not None
        if not message.sha1:
            return
        # During an update, the controller that works on it adjusts the number of instances.
        if actions.shrink and not rolling:
            self._dispatcher.stop(app_id, version=message.version, indices=actions.shrink)
        if actions.grow and not rolling:
            self._dispatcher.start(message, actions.grow)
        if actions.grow or actions.shrink:
            self._dispatcher.changed(app_id)
        if actions.reroute:
            self._dispatcher.update(message)

    def _check_deas(self, app_id: int) -> None:
        with self._db.session() as session:
            app = app_rows.by_id(session, app_id)
            if app is None:
                raise no_app()
            probe = start_message(app, self._config, self._store)
        if not self._dispatcher.has_deas(probe):
            raise ApiError(Code.APP_NO_RESOURCES, "no DEA is available")

    def _start(self, change: Change, by: str) -> None:
        app_id = change.app_id
        self._check_deas(app_id)
        begun: list[tuple[DeaStart, int, bool, Released]] = []
        refused: list[ApiError] = []

        def staged(session: Session, app: App) -> None:
            again = app.state == AppState.STARTED
            if again and app.started_package_hash == app.staged_package_hash:
                # A parallel request has started it.
                return
            try:
                self._changes.check_start(session, app)
            except ApiError as error:
                refused.append(error)
                return
            revisions.adopt(session, app)
            update_rows.close(session, app_id, "the application was started anew", self._db.now(session))
            app.state = AppState.STARTED
            _, released = revisions.begin(session, app, by)
            app_rows.touch(app)
            message = start_message(app, self._config, self._store)
            begun.append((message, app.instances, again, released))

        try:
            with self._changes.undoing(change, by) as failed:
                self._stagings.ensure(app_id, StagingCallbacks(staged, failed))
                if refused:
                    raise refused[0]
        except ApiError:
            self._stop_if_down(app_id)
            raise
        for message, instances, again, released in begun:
            if again:
                self._dispatcher.stop(app_id)
            self._dispatcher.start(message, range(instances))
            self._dispatcher.changed(app_id)
            self._release(released)

    def _release(self, released: Released) -> None:
        references.release(self._db, self._store, packages=released.packages, droplets=released.droplets)

    def _stop_if_down(self, app_id: int) -> None:
        with self._db.session() as session:
            app = app_rows.by_id(session, app_id)
            down = app is not None and app.state == AppState.STOPPED
        if down:
            self._dispatcher.stop(app_id)
            self._dispatcher.changed(app_id)


def _who(caller: Caller) -> str:
    return caller.by or caller.email
