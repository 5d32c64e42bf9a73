"""The pool's data across controllers and restarts: ccdb stores the last beat of each DEA with its time."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from sqlalchemy import delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from components.controller.db.database import Database
from components.controller.db.models import Machine
from components.controller.pool.registry import REMEMBER_SECONDS, Pool, left, remembered

# Several workers receive the same beats; one of them writes.
WRITE_SECONDS = 4.0
# The bound of the difference between two controllers' clocks.
CLOCKS_DIFFER_SECONDS = 60.0


def save(db: Database, pool: Pool) -> None:
    """Write the received beats, unless another worker has just done so, and delete machines that left long ago."""
    insert = postgresql.insert if db.postgresql else sqlite.insert
    now = time.time()
    heard = sorted(pool.beats(), key=lambda pair: pair[0].id)
    with db.session() as session:
        for beat, seen in heard:
            if now - seen > REMEMBER_SECONDS or (left(beat) and now - seen > WRITE_SECONDS):
                continue
            row = insert(Machine).values(id=beat.id, beat=msgspec.to_builtins(beat), last_seen=seen)
            session.execute(
                row.on_conflict_do_update(
                    index_elements=["id"],
                    set_={"beat": row.excluded.beat, "last_seen": row.excluded.last_seen},
                    # A row from the future was written before a clock was set back.
                    where=or_(
                        Machine.last_seen < row.excluded.last_seen - WRITE_SECONDS,
                        Machine.last_seen > row.excluded.last_seen + CLOCKS_DIFFER_SECONDS,
                    ),
                )
            )
        session.execute(delete(Machine).where(Machine.last_seen < now - REMEMBER_SECONDS))


def listing(db: Database, pool: Pool) -> list[dict[str, Any]]:
    """Return all machines, by address: those of this process's beats, and those in ccdb."""
    wall = time.time()
    shown = pool.picture(time.monotonic(), wall)
    with db.session() as session:
        rows = [(m.id, m.beat, m.last_seen) for m in session.scalars(select(Machine))]
    for id_, beat, last_seen in rows:
        if id_ not in shown and (machine := remembered(beat, last_seen, wall)):
            shown[id_] = machine
    # A machine that came back under a new id is not also lost.
    alive = {m["address"] for m in shown.values() if m["state"] != "lost"}
    kept = [m for m in shown.values() if m["state"] != "lost" or m["address"] not in alive]
    return sorted(kept, key=lambda m: (m["address"], m["id"]))
