"""Events as rows: their query, their JSON, and their removal."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, and_, or_, select

from components.controller.db.database import Database
from components.controller.db.models import Event

_DAY = 86400.0
# The name of an anonymous caller in the event of a refused call.
NOBODY = "anonymous"
# Strangers can cause these events: they must neither fill ccdb nor displace the events of users.
MOST_REFUSED = 100_000
_AT_THE_DOOR = and_(
    Event.status >= 400,
    or_(
        Event.who == NOBODY,
        and_(Event.method == "POST", or_(Event.path == "/users", Event.path.like("/users/%/tokens"))),
    ),
)


def matching(
    *, own: str | None, user: str | None, app: str | None, since: float, before: int | None
) -> Select[Event]:
    """Return the query for events, newest first.

    Args:
        own: only calls of this account, or in its name.
        user: only calls of this account.
        app: only events of applications of this name.
        since: seconds since 1970.
        before: only events with smaller ids.
    """
    query = select(Event).where(Event.at >= since)
    if own is not None:
        query = query.where(or_(Event.who == own, Event.acting_for == own))
    if user is not None:
        query = query.where(Event.who == user)
    if app is not None:
        query = query.where(Event.app == app)
    if before is not None:
        query = query.where(Event.id < before)
    return query.order_by(Event.id.desc())


def prune(db: Database, days: int, now: float) -> None:
    """Delete the events that are older than some days.

    Args:
        db: ccdb.
        days: the age up to which events are kept.
        now: seconds since 1970.
    """
    db.prune(Event, Event.at < now - days * _DAY)


def prune_refused(db: Database) -> None:
    """Delete the events of refused anonymous calls but for the newest."""
    with db.session() as session:
        last = session.scalar(
            select(Event.id).where(_AT_THE_DOOR).order_by(Event.id.desc()).offset(MOST_REFUSED).limit(1)
        )
    if last is not None:
        db.prune(Event, _AT_THE_DOOR, Event.id <= last)


def to_json(event: Event) -> dict[str, Any]:
    """Return an event's JSON (docs/platform.md)."""
    return {
        "id": event.id,
        "at": round(event.at, 3),
        "who": event.who,
        "acting_for": event.acting_for or None,
        "method": event.method,
        "path": event.path,
        "app": event.app or None,
        "status": event.status,
        "from": event.origin or None,
        "outcome": event.outcome or ("succeeded" if event.status < 400 else "failed"),
    }
