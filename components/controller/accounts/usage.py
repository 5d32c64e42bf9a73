"""Usage statistics: sums of DEAs' and routers' samples by day, as JSON or CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects import postgresql, sqlite

from components.common import log
from components.common.bus.operation_messages import DeaUsage, RouterUsage
from components.common.digits import whole_number
from components.controller.db.database import Database
from components.controller.db.models import App, User
from components.controller.db.models_records import UsageDay

# The bounds of a credible sample: seconds it covers, seconds by which its clock may be off, MB, cores.
MOST_SECONDS = 3600.0
MOST_SKEW = 2 * 86400.0
MOST_MB = 1 << 24
MOST_CORES = 1024
MOST_REQUESTS = 1 << 40
COLUMNS = (
    "day",
    "user",
    "app",
    "reserved_mb_hours",
    "used_mb_hours",
    "cpu_seconds",
    "requests",
    "restarts",
)
_SUMS = ("reserved_mb_seconds", "used_mb_seconds", "cpu_seconds", "requests", "restarts")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
logger = log.get(__name__)


def of_dea(message: DeaUsage) -> dict[int, dict[str, float]]:
    """Return the amounts that a DEA's sample adds to each application (pure); incredible values add nothing."""
    if not _between(message.seconds, MOST_SECONDS):
        return {}
    found: dict[int, dict[str, float]] = {}
    for sample in message.samples:
        sane = (
            _between(sample.reserved, MOST_MB)
            and _between(sample.used, MOST_MB)
            and _between(sample.cpu, message.seconds * MOST_CORES)
        )
        if not sane:
            continue
        sums = found.setdefault(sample.droplet, dict.fromkeys(_SUMS, 0))
        sums["reserved_mb_seconds"] += sample.reserved * message.seconds
        sums["used_mb_seconds"] += sample.used * message.seconds
        sums["cpu_seconds"] += sample.cpu
        sums["restarts"] += int(sample.restarted)
    return found


def of_router(message: RouterUsage) -> dict[int, dict[str, float]]:
    """Return the amounts that a router's sample adds to each application (pure); incredible values add nothing."""
    return {
        app: {"requests": count}
        for app, count in ((whole_number(name), count) for name, count in message.requests.items())
        if app is not None and 0 < count <= MOST_REQUESTS
    }


def day_of(at: float, now: float) -> str:
    """Return the day (UTC) of a sample; one from a clock that is far off belongs to today."""
    when = at if abs(at - now) <= MOST_SKEW else now
    return dt.datetime.fromtimestamp(when, dt.UTC).date().isoformat()


def add(db: Database, day: str, sums: Mapping[int, Mapping[str, float]]) -> None:
    """Add to the day's rows, in one statement each; applications that do not exist are left out."""
    known = {id_ for id_ in sums if 0 < id_ < 1 << 62}
    if not known:
        return
    insert = postgresql.insert if db.postgresql else sqlite.insert
    with db.session() as session:
        query = select(App.id, App.name, User.id, User.email).join(User, User.id == App.owner_id)
        # Always in the same order, so that two controllers that add at once cannot deadlock.
        for id_, name, user_id, email in session.execute(query.where(App.id.in_(known)).order_by(App.id)):
            more = {key: sums[id_].get(key, 0) for key in _SUMS}
            row = insert(UsageDay).values(day=day, app_id=id_, user_id=user_id, email=email, app=name, **more)
            changes = {key: getattr(UsageDay, key) + getattr(row.excluded, key) for key in more}
            session.execute(
                row.on_conflict_do_update(
                    index_elements=["day", "app_id"],
                    set_={**changes, "app": row.excluded.app, "email": row.excluded.email},
                )
            )


class UsageTaker:
    """The receiver of samples, which adds each on its arrival."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def dea(self, message: DeaUsage) -> None:
        """Add a DEA's sample."""
        add(self._db, day_of(message.at, time.time()), of_dea(message))

    def router(self, message: RouterUsage) -> None:
        """Add a router's sample."""
        add(self._db, day_of(message.at, time.time()), of_router(message))


def days(
    first: dt.date, last: dt.date, *, user_id: int | None, email: str | None, app: str | None
) -> Select[UsageDay]:
    """Return the query for the days from `first` to `last`, both included, newest first."""
    query = select(UsageDay).where(UsageDay.day >= first.isoformat(), UsageDay.day <= last.isoformat())
    if user_id is not None:
        query = query.where(UsageDay.user_id == user_id)
    if email is not None:
        query = query.where(UsageDay.email == email)
    if app is not None:
        query = query.where(UsageDay.app == app)
    return query.order_by(UsageDay.day.desc(), UsageDay.email, UsageDay.app, UsageDay.app_id)


def to_json(row: UsageDay) -> dict[str, Any]:
    """Return the JSON of an application's day."""
    return {
        "day": row.day,
        "user": row.email,
        "app": row.app,
        "reserved_mb_hours": round(row.reserved_mb_seconds / 3600, 3),
        "used_mb_hours": round(row.used_mb_seconds / 3600, 3),
        "cpu_seconds": round(row.cpu_seconds, 3),
        "requests": row.requests,
        "restarts": row.restarts,
    }


def as_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return days as CSV (RFC 4180). A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    return out.getvalue()


def prune(db: Database, keep_days: int, now: float) -> None:
    """Delete the days that are older than `keep_days`; `now` is seconds since 1970."""
    last = dt.datetime.fromtimestamp(now, dt.UTC).date() - dt.timedelta(days=keep_days)
    db.prune(UsageDay, UsageDay.day < last.isoformat())


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _between(value: float, most: float) -> bool:
    return math.isfinite(value) and 0 <= value <= most
