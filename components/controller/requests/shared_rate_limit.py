"""Limits of rare actions, counted in ccdb for all workers together: failed logins, registrations, uploads."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Float, case, cast, func, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from components.controller.config import RateLimit
from components.controller.db.database import Database
from components.controller.db.models_records import Taking

# Beyond this number, the least recently used keys are deleted: a deleted one has a full bucket again.
MOST_KEYS = 100_000
# An account that logged in from an address within this time is at home there: it may log in even if others have used up the
# address's limit. The rows that record this are no buckets.
_HOME, HOME_SECONDS = "home ", 7 * 86_400.0
# Concurrent statements may overtake each other; a time that is farther ahead comes from another clock, and is ignored.
_AHEAD_SECONDS = 60.0


def level(at: float, then: float, now: float, limit: RateLimit) -> float:
    """Return the present content of a bucket that held `then` at `at`."""
    if at - now > _AHEAD_SECONDS:
        return float(limit.burst)
    return min(float(limit.burst), then + max(0.0, now - at) * limit.per_minute / 60)


class SharedRateLimiter:
    """Buckets by key for all processes, like those of `rate_limit.RateLimiter` for one.

    Args:
        db: of the buckets.
        limits: all limits in use, from which follows how long a bucket is kept.
    """

    def __init__(self, db: Database, limits: list[RateLimit]) -> None:
        self._db = db
        self._insert = postgresql.insert if db.postgresql else sqlite.insert
        self._keep_seconds = max(
            [60.0, *(limit.burst * 60 / limit.per_minute for limit in limits if limit.per_minute)]
        )

    def look(
        self, asked: Connection, limits: Mapping[str, RateLimit], pair: str = ""
    ) -> tuple[dict[str, float], bool]:
        """Return the seconds until each key has a token, at most 0.0 where it has one, and whether a pair is at home.

        Nothing is taken. One statement.

        Args:
            asked: a transaction, or a connection for single statements.
            limits: of each key.
            pair: an address and an account, in the form of `settle`.
        """
        wanted = {key: limit for key, limit in limits.items() if limit.per_minute}
        if not wanted:
            return {}, False
        home, waits, at_home = _HOME + pair, dict.fromkeys(limits, 0.0), False
        rows = asked.execute(
            select(Taking.key, Taking.level, Taking.at, self._now()).where(Taking.key.in_([*wanted, home]))
        )
        for key, then, at, now in rows:
            if key == home:
                at_home = abs(now - at) < HOME_SECONDS
            else:
                limit = wanted[key]
                waits[key] = (1 - level(at, then, now, limit)) * 60 / limit.per_minute
        return waits, at_home

    def take(self, asked: Connection, key: str, limit: RateLimit) -> float:
        """Take one token; return 0.0 when there was one, else seconds within which there will be. One statement."""
        if not limit.per_minute:
            return 0.0
        rate, now = limit.per_minute / 60, self._now()
        row = self._insert(Taking).values(key=key, level=limit.burst - 1.0, at=now)
        passed = row.excluded.at - Taking.at
        filled = Taking.level + case((passed > 0, passed), else_=0.0) * rate
        full = or_(passed < -_AHEAD_SECONDS, filled > limit.burst)
        left = case((full, float(limit.burst)), else_=filled)
        taken = row.on_conflict_do_update(
            index_elements=[Taking.key],
            set_={"level": left - 1, "at": row.excluded.at},
            where=left >= 1,
        ).returning(Taking.level)
        return 0.0 if asked.execute(taken).one_or_none() is not None else 1 / rate

    def settle(self, asked: Connection, pair: str) -> None:
        """Record for all workers that an account logged in from an address. One statement."""
        row = self._insert(Taking).values(key=_HOME + pair, level=0.0, at=self._now())
        asked.execute(row.on_conflict_do_update(index_elements=[Taking.key], set_={"at": row.excluded.at}))

    def prune(self) -> None:
        """Delete the buckets that are full again, expired pairs, and all beyond the newest `MOST_KEYS`."""
        with self._db.connection() as connection:
            now = connection.execute(select(self._now())).scalar_one()
            newest = select(Taking.at).order_by(Taking.at.desc()).offset(MOST_KEYS).limit(1)
            last = connection.execute(newest).scalar_one_or_none()
        bucket = ~Taking.key.startswith(_HOME)
        old = or_(Taking.at < now - HOME_SECONDS, bucket & (Taking.at < now - self._keep_seconds))
        self._db.prune(Taking, old if last is None else or_(old, Taking.at < last))

    def _now(self) -> ColumnElement[float]:
        if not self._db.postgresql:
            return literal(time.time(), Float)
        return cast(func.extract("epoch", func.clock_timestamp()), Float)
