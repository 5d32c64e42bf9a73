"""What an account may use and what it uses: the platform's defaults, its own limits over them, and its sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, or_, select
from sqlalchemy.orm import Session

from components.controller.asked import members, whole
from components.controller.config import Capacity, ControllerConfig
from components.controller.errors import ApiError
from components.controller.models import STARTED, App, ServiceConfig, User
from components.controller.models_records import TASK_OPEN, Quota, Task

NAMES = ("memory", "apps", "app_uris", "services")
MOST = 1 << 30
_LOCK = select(User.id).where(User.id == bindparam("user_id")).with_for_update()
_STARTED = (App.state == STARTED) & (App.id != bindparam("without"))
_TASKS = (
    select(func.sum(Task.memory))
    .join(App, App.id == Task.app_id)
    .where(App.owner_id == User.id, or_(*(Task.state == state for state in TASK_OPEN)))
    .correlate(User)
)
_SERVICES = select(func.count()).select_from(ServiceConfig).where(ServiceConfig.user_id == User.id)
# All of it at once: every application that is shown, made or changed asks one part of it or another.
_STANDING = (
    select(
        User.admin,
        func.count(App.id),
        func.count(App.id).filter(_STARTED),
        func.sum(App.memory * App.instances).filter(_STARTED),
        _TASKS.scalar_subquery(),
        _SERVICES.correlate(User).scalar_subquery(),
        *(getattr(Quota, name) for name in NAMES),
    )
    .select_from(User)
    .outerjoin(Quota, Quota.user_id == User.id)
    .outerjoin(App, App.owner_id == User.id)
    .where(User.id == bindparam("user_id"))
    .group_by(User.id, Quota.user_id)
)


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account has. `memory`: MB that its `started` applications and its open tasks may use."""

    capacity: Capacity
    admin: bool
    apps: int
    started: int
    memory: int
    services: int


def lock(asked: Connection, user_id: int) -> bool:
    """Hold an account until the transaction ends: what it has is kept by one request at a time. False: it is gone."""
    return asked.execute(_LOCK, {"user_id": user_id}).one_or_none() is not None


def standing(
    asked: Connection, config: ControllerConfig, user_id: int, *, without: int | None = None
) -> Standing:
    """Give what an account has and may have, what the application `without` uses left out of the sums.

    Raises:
        ApiError: 201 for an account that is gone.
    """
    row = asked.execute(_STANDING, {"user_id": user_id, "without": without or 0}).one_or_none()
    if row is None:
        raise ApiError(201)
    admin, apps, started, memory, by_tasks, services, *own = row
    return Standing(
        capacity=_effective(config, dict(zip(NAMES, own, strict=True)), admin=admin),
        admin=admin,
        apps=apps,
        started=started,
        memory=int(memory or 0) + int(by_tasks or 0),
        services=services,
    )


def limits(session: Session, config: ControllerConfig, user_id: int, *, admin: bool) -> Capacity:
    """Give an account's limits."""
    own = session.get(Quota, user_id)
    return _effective(config, {name: getattr(own, name) for name in NAMES} if own else {}, admin=admin)


def _effective(config: ControllerConfig, own: Mapping[str, int | None], *, admin: bool) -> Capacity:
    default = config.admin_capacity if admin else config.user_capacity
    chosen = {name: value for name, value in own.items() if value is not None}
    return msgspec.structs.replace(default, **chosen) if chosen else default


def change(session: Session, user_id: int, body: Mapping[str, Any]) -> None:
    """Write an account's own limits: those named change, null goes back to the platform's default.

    Raises:
        ApiError: 100, naming the member.
    """
    members(body, NAMES)
    given = {name: whole(body, name, None, 0, MOST) for name in NAMES if name in body}
    row = session.get(Quota, user_id)
    if row is None:
        row = Quota(user_id=user_id)
        session.add(row)
    for name, value in given.items():
        setattr(row, name, value)


def shape(capacity: Capacity) -> dict[str, int]:
    """Show limits, MB and counts."""
    return {name: getattr(capacity, name) for name in NAMES}
