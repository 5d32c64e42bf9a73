"""Leases, which name the leader among several of a kind (docs/platform.md). Time is the database's.

Its clock may be set back: an end that is farther away than the lease's duration is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from components.controller.db.database import Database
from components.controller.db.models import Lease

LONGEST_TTL = 3600.0


@dataclass(frozen=True, slots=True)
class Held:
    """The holder of a lease, its fence, and its remaining seconds."""

    holder: str
    token: int
    expires_in: float


def take(db: Database, session: Session, name: str, holder: str, ttl: float) -> Held:
    """Take a free lease, or renew the holder's own; return the lease, with another holder where it was refused."""
    insert = postgresql.insert if db.postgresql else sqlite.insert
    fresh = insert(Lease).values(name=name, holder="", token=0, expires_at=0.0)
    session.execute(fresh.on_conflict_do_nothing())
    row = session.get(Lease, name, with_for_update=True, populate_existing=True)
    assert row is not None
    now = db.now(session)
    if row.holder != holder:
        if _runs(row, now):
            return Held(row.holder, row.token, row.expires_at - now)
        row.holder, row.token = holder, row.token + 1
    row.expires_at, row.ttl = now + ttl, ttl
    return Held(row.holder, row.token, ttl)


def give_back(db: Database, session: Session, name: str, holder: str) -> Held | None:
    """Free the holder's own lease; return the lease where another holds it."""
    row = session.get(Lease, name, with_for_update=True)
    if row is None:
        return None
    now = db.now(session)
    if row.holder != holder and _runs(row, now):
        return Held(row.holder, row.token, row.expires_at - now)
    # Empty, so that the next holder, even the same one, gets a greater token.
    row.holder, row.expires_at = "", 0.0
    return None


def _runs(row: Lease, now: float) -> bool:
    return bool(row.holder) and now < row.expires_at <= now + (row.ttl or LONGEST_TTL)
