"""What an account may use: the platform's defaults, and an account's own limits over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from components.controller.asked import members, whole
from components.controller.config import Capacity, ControllerConfig
from components.controller.models_records import Quota

NAMES = ("memory", "apps", "app_uris", "services")
MOST = 1 << 30


def limits(session: Session, config: ControllerConfig, user_id: int, *, admin: bool) -> Capacity:
    """Give an account's limits."""
    return effective(config, session.get(Quota, user_id), admin=admin)


def effective(config: ControllerConfig, own: Quota | None, *, admin: bool) -> Capacity:
    """Give the platform's defaults with an account's own limits over them."""
    default = config.admin_capacity if admin else config.user_capacity
    if own is None:
        return default
    chosen = {name: getattr(own, name) for name in NAMES}
    return msgspec.structs.replace(default, **{n: v for n, v in chosen.items() if v is not None})


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
