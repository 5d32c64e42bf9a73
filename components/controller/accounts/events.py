"""Events as rows: which ones are asked for, how they are shown, and when they are forgotten."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, and_, or_, select

from components.controller.db.database import Database
from components.controller.db.models import Event

_DAY = 86400.0
# The name of a caller without one whose call is refused.
NOBODY = "anonymous"
# Anybody in the world can add to these: they must not fill ccdb, nor push out what users did.
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
    """Give the query for events, newest first.

    Args:
        own: only what this account did, or was done in its name.
        user: only what this account did.
        app: only what happened to applications of this name.
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
    """Forget events older than that.

    Args:
        db: ccdb.
        days: how long events are kept.
        now: seconds since 1970.
    """
    db.prune(Event, Event.at < now - days * _DAY)


def prune_refused(db: Database) -> None:
    """Forget all but the newest calls that somebody without a name was refused."""
    with db.session() as session:
        last = session.scalar(
            select(Event.id).where(_AT_THE_DOOR).order_by(Event.id.desc()).offset(MOST_REFUSED).limit(1)
        )
    if last is not None:
        db.prune(Event, _AT_THE_DOOR, Event.id <= last)


def shape(event: Event) -> dict[str, Any]:
    """Show an event (docs/platform.md)."""
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
