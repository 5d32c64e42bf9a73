"""The change of an application's row by a request, and its reversal after a failure (protocol 1.8).

This module does not touch instances; `use_cases` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from components.common.states import AppState
from components.controller.accounts import quotas
from components.controller.accounts.auth import Caller
from components.controller.apps import revisions, runtimes
from components.controller.apps import rows as app_rows
from components.controller.apps.change_plan import (
    Actions,
    AppSpec,
    ChangeRules,
    check_room,
    decide,
    growth,
    plan,
)
from components.controller.config import ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App
from components.controller.errors import ApiError, denied
from components.controller.pool.registry import Pool
from components.controller.rolling_updates import rows as update_rows
from components.controller.rolling_updates import saved_states
from components.controller.services.broker import NewBinding, ServiceBroker
from components.controller.services.rows import Bound


@dataclass(frozen=True, slots=True)
class Change:
    """An application before and after a change of its row; `before` is the state that a reversal restores."""

    app_id: int
    before: AppSpec
    after: AppSpec
    actions: Actions


class Changes:
    """The changes of applications' rows."""

    def __init__(self, config: ControllerConfig, db: Database, services: ServiceBroker, pool: Pool) -> None:
        self._config = config
        self._db = db
        self._services = services
        self._pool = pool

    def plan_new(self, session: Session, caller: Caller, name: str, body: Mapping[str, Any]) -> AppSpec:
        """Return a new application as it will be; its owner's row is locked.

        Raises:
            ApiError: the codes of protocol 1.8.
        """
        if not quotas.lock(session.connection(), caller.id):
            raise denied()
        rules = app_rows.rules(session, caller.id, self._config, None)
        target = plan(AppSpec(name=name), body, rules, create=True)
        runtimes.check(self._pool, AppSpec(name=name), target)
        return target

    def rules(self, session: Session, app: App) -> ChangeRules:
        """Return the rules of an application's owner; a locked application's owner is locked as well."""
        quotas.lock(session.connection(), app.owner_id)
        return app_rows.rules(session, app.owner_id, self._config, app)

    def check_start(self, session: Session, app: App) -> None:
        """Check that an application may be started as it is: others may have started while it was staged.

        Raises:
            ApiError: ACCOUNT_NOT_ENOUGH_MEMORY, ACCOUNT_TOO_MANY_INSTANCES, ACCOUNT_NOT_ENOUGH_DISK, REGISTERED_ACCOUNTS_FULL.
        """
        rules, now = self.rules(session, app), app_rows.spec(session, app)
        check_room(now, rules)
        if rules.registered:
            quotas.check_registered(
                self._db, session, self._config, *growth(now, replace(now, state=AppState.STARTED))
            )

    def bind_new(self, caller: Caller, name: str | None, body: Mapping[str, Any]) -> list[NewBinding]:
        """Have gateways make the bindings that a request adds, after all other checks of the request.

        Gateways are asked before the lock of the application's row, because their answers may take long.
        """
        if not body.get("services"):
            return []
        with self._db.session() as session:
            if name is None:
                target = self.plan_new(session, caller, str(body.get("name")), body)
                known: tuple[str, ...] = ()
            else:
                app = app_rows.find(session, caller, name)
                current = app_rows.spec(session, app)
                target = plan(current, body, app_rows.rules(session, app.owner_id, self._config, app))
                known = current.services
        return self._services.make(caller, [alias for alias in target.services if alias not in known])

    def change(self, caller: Caller, name: str, body: Mapping[str, Any], *, rolls: bool = False) -> Change:
        """Change an application's row, and no instances; `rolls` where a rolling update deploys the change."""
        fresh = self.bind_new(caller, name, body)
        with self._services.kept(fresh), self._db.session() as session:
            app = app_rows.find(session, caller, name, lock=True)
            current = app_rows.spec(session, app)
            if rolls:
                # A body without services keeps the present ones, including those bound meanwhile.
                body = {"services": list(current.services), **body}
            rules = self.rules(session, app)
            target = plan(current, body, rules)
            if rules.registered and target.state == AppState.STARTED:
                quotas.check_registered(self._db, session, self._config, *growth(current, target))
            runtimes.check(self._pool, current, target)
            actions = decide(current, target)
            before = current
            if current.state == AppState.STARTED:
                # The application returns to this revision if the change fails.
                revisions.adopt(session, app)
                if rolls or actions.start:
                    before = saved_states.note(session, app, current, target)
            app_rows.apply(session, app, current, target)
            if actions.stop:
                app.state = AppState.STOPPED
                update_rows.close(session, app.id, "the application was stopped", self._db.now(session))
            gone: list[Bound] = []
            if fresh or target.services != current.services:
                gone = self._services.settle(session, app, target.services, fresh)
            app_rows.restage_if_due(app)
            change = Change(app.id, before, target, actions)
        self._services.unbind(gone)
        return change

    @contextmanager
    def undoing(self, change: Change | None, by: str) -> Iterator[Callable[[Session, App, str], bool]]:
        """Yield the reversal for a failed staging of a running application, which goes on as before the change.

        A start that is refused within this context reverts the change as well.
        """
        gone: list[Bound] = []

        def failed(session: Session, app: App, reason: str) -> bool:
            if app.state != AppState.STARTED:
                return False
            update_rows.refuse(session, app, by, f"staging failed: {reason}", self._db.now(session))
            gone.extend(self._undo(session, app, change))
            return True

        try:
            yield failed
        except ApiError as error:
            with self._db.session() as session:
                app = app_rows.by_id(session, change.app_id, lock=True) if change else None
                if app is not None and app.state == AppState.STARTED:
                    if app.started_package_hash not in (None, app.staged_package_hash):
                        update_rows.refuse(session, app, by, str(error), self._db.now(session))
                    gone.extend(self._undo(session, app, change))
            self._services.unbind(gone)
            raise

    def _undo(self, session: Session, app: App, change: Change | None) -> list[Bound]:
        if change is None:
            return []
        key = str(change.after.lock_version)
        return saved_states.take_back(session, app, saved_states.CHANGE, key, self._services)
