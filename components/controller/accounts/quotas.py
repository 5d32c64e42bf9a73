"""Quotas and usage of accounts: the platform's defaults, an account's own limits over them, and its sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, or_, select
from sqlalchemy.orm import Session

from components.common.states import AppState
from components.controller.config import Capacity, ControllerConfig
from components.controller.db.database import Database
from components.controller.db.models import App, Route, ServiceConfig, Staging, StagingState, User
from components.controller.db.models_records import OPEN_TASKS, Quota, Task
from components.controller.errors import ApiError, Code
from components.controller.requests.query import members, whole

# The limits of 2011, which `/info` shows, and all limits.
OLD_NAMES = ("memory", "apps", "app_uris", "services")
NAMES = (*OLD_NAMES, "instances", "disk", "routes", "builds", "storage")
MOST = 1 << 30
_LOCK = select(User.id).where(User.id == bindparam("user_id")).with_for_update()
_STARTED = (App.state == AppState.STARTED) & (App.id != bindparam("without"))
# Open tasks are few, and read once.
_TASKS = (
    select(
        App.owner_id,
        func.sum(Task.memory).label("memory"),
        func.count().label("count"),
        func.sum(App.disk_quota).label("disk"),
    )
    .select_from(Task)
    .join(App, App.id == Task.app_id)
    .where(or_(*(Task.state == state for state in OPEN_TASKS)))
    .group_by(App.owner_id)
    .subquery()
    .c
)
_SERVICES = select(func.count()).select_from(ServiceConfig).where(ServiceConfig.user_id == User.id)
_ROUTES = (
    select(func.count())
    .select_from(Route)
    .join(App, App.id == Route.app_id)
    .where(App.owner_id == User.id, App.id != bindparam("without"))
)
# One query for all: every call that shows, makes or changes an application needs some part of it.
_STANDING = (
    select(
        User.admin,
        User.registered,
        func.count(App.id),
        func.count(App.id).filter(_STARTED),
        func.sum(App.memory * App.instances).filter(_STARTED),
        func.sum(App.instances).filter(_STARTED),
        func.sum(App.disk_quota * App.instances).filter(_STARTED),
        _TASKS.memory,
        _TASKS["count"],
        _TASKS.disk,
        _ROUTES.correlate(User).scalar_subquery(),
        _SERVICES.correlate(User).scalar_subquery(),
        *(getattr(Quota, name) for name in NAMES),
    )
    .select_from(User)
    .outerjoin(Quota, Quota.user_id == User.id)
    .outerjoin(App, App.owner_id == User.id)
    .outerjoin(_TASKS.owner_id.table, _TASKS.owner_id == User.id)
    .where(User.id == bindparam("user_id"))
    .group_by(User.id, Quota.user_id, _TASKS.memory, _TASKS["count"], _TASKS.disk)
)


_REGISTERED = (
    select(func.sum(App.memory * App.instances), func.sum(App.instances))
    .join(User, User.id == App.owner_id)
    .where(User.registered, App.state == AppState.STARTED)
)
_REGISTERED_TASKS = (
    select(func.sum(Task.memory), func.count())
    .select_from(Task)
    .join(App, App.id == Task.app_id)
    .join(User, User.id == App.owner_id)
    .where(User.registered, Task.state.in_(OPEN_TASKS))
)
_REGISTERED_LOCK = "registered"
_ACCOUNTS = select(func.count()).select_from(User).where(User.registered)
_BUILDS = (
    select(func.count())
    .select_from(Staging)
    .join(App, App.id == Staging.app_id)
    .where(
        App.owner_id == bindparam("owner_id"),
        App.id != bindparam("app_id"),
        Staging.state == StagingState.RUNNING,
        Staging.alive_at > bindparam("since"),
    )
)


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's usage. `memory`, `instances` and `disk` (MB): of its `started` applications and its open tasks."""

    capacity: Capacity
    admin: bool
    registered: bool
    apps: int
    started: int
    memory: int
    instances: int
    disk: int
    routes: int
    services: int


def lock(asked: Connection, user_id: int) -> bool:
    """Lock an account until the transaction ends, so that one request at a time changes its usage; False where it is gone."""
    return asked.execute(_LOCK, {"user_id": user_id}).one_or_none() is not None


def standing(
    asked: Connection, config: ControllerConfig, user_id: int, *, without: int | None = None
) -> Standing:
    """Return an account's usage and limits; the sums leave out the application `without`.

    Raises:
        ApiError: USER_NOT_FOUND for an account that is gone.
    """
    row = asked.execute(_STANDING, {"user_id": user_id, "without": without or 0}).one_or_none()
    if row is None:
        raise ApiError(Code.USER_NOT_FOUND)
    admin, registered, apps, started, memory, instances, disk, *more = row
    tasks_memory, tasks, tasks_disk, routes, services, *own = more
    return Standing(
        capacity=_effective(config, dict(zip(NAMES, own, strict=True)), admin=admin),
        admin=admin,
        registered=registered,
        apps=apps,
        started=started,
        memory=int(memory or 0) + int(tasks_memory or 0),
        instances=int(instances or 0) + int(tasks or 0),
        disk=int(disk or 0) + int(tasks_disk or 0),
        routes=routes,
        services=services,
    )


def limits(session: Session, config: ControllerConfig, user_id: int, *, admin: bool) -> Capacity:
    """Return an account's limits."""
    own = session.get(Quota, user_id)
    return _effective(config, {name: getattr(own, name) for name in NAMES} if own else {}, admin=admin)


def _effective(config: ControllerConfig, own: Mapping[str, int | None], *, admin: bool) -> Capacity:
    default = config.admin_capacity if admin else config.user_capacity
    chosen = {name: value for name, value in own.items() if value is not None}
    return msgspec.structs.replace(default, **chosen) if chosen else default


def change(session: Session, user_id: int, body: Mapping[str, Any]) -> None:
    """Write an account's own limits: those in the body change, null restores the platform's default.

    Raises:
        ApiError: BAD_REQUEST, naming the member.
    """
    members(body, NAMES)
    given = {name: whole(body, name, None, 0, MOST) for name in NAMES if name in body}
    row = session.get(Quota, user_id)
    if row is None:
        row = Quota(user_id=user_id)
        session.add(row)
    for name, value in given.items():
        setattr(row, name, value)


def to_json(capacity: Capacity, names: tuple[str, ...] = NAMES) -> dict[str, int]:
    """Return the JSON of limits, MB and counts."""
    return {name: getattr(capacity, name) for name in names}


def check_registered(
    db: Database, session: Session, config: ControllerConfig, memory: int, instances: int
) -> None:
    """Check that all self-registered accounts together may run so much more; a change that adds nothing always passes.

    The check of another such account waits until the transaction ends. The application and its owner are locked before.

    Raises:
        ApiError: REGISTERED_ACCOUNTS_FULL.
    """
    if memory <= 0 and instances <= 0:
        return
    db.lock(session, _REGISTERED_LOCK)
    most, asked = config.registered_limit, session.connection()
    used = zip(asked.execute(_REGISTERED).one(), asked.execute(_REGISTERED_TASKS).one(), strict=True)
    used_memory, used_instances = (int(started or 0) + int(tasks or 0) for started, tasks in used)
    if used_memory + memory > most.memory:
        raise ApiError(Code.REGISTERED_ACCOUNTS_FULL, "memory")
    if used_instances + instances > most.instances:
        raise ApiError(Code.REGISTERED_ACCOUNTS_FULL, "instances")


def check_registration(asked: Connection, config: ControllerConfig) -> None:
    """Check that one more account may register.

    Raises:
        ApiError: REGISTERED_ACCOUNTS_FULL.
    """
    if asked.execute(_ACCOUNTS).scalar_one() >= config.registered_limit.accounts:
        raise ApiError(Code.REGISTERED_ACCOUNTS_FULL, "an account")


def check_builds(asked: Connection, app: App, most: int, since: float) -> None:
    """Check that an owner may run one more build; the lock of the owner's row makes concurrent builds count one by one.

    Args:
        asked: the transaction.
        app: the application of the new build.
        most: the number of builds that the owner may run at a time.
        since: builds that were not renewed since then are over.

    Raises:
        ApiError: ACCOUNT_TOO_MANY_STAGINGS.
    """
    lock(asked, app.owner_id)
    given = {"owner_id": app.owner_id, "app_id": app.id, "since": since}
    running = asked.execute(_BUILDS, given).scalar_one()
    if running >= most:
        raise ApiError(Code.ACCOUNT_TOO_MANY_STAGINGS, running + 1, most)
