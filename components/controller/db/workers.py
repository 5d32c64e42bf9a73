"""The number of processes that serve the API: each one's limits are a share of the platform's."""

from __future__ import annotations

import secrets

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from components.controller.db.database import Database
from components.controller.db.models_records import Worker

LOOK_SECONDS = 10.0
# A worker that was silent for this long is gone.
SILENT_SECONDS = 35.0


class Workers:
    """The workers of all controllers in ccdb, including this one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._id = secrets.token_hex(16)
        self._insert = postgresql.insert if db.postgresql else sqlite.insert

    def look(self) -> int:
        """Record that this worker serves; return the number of workers."""
        with self._db.session() as session:
            now = self._db.now(session)
            row = self._insert(Worker).values(id=self._id, seen=now)
            session.execute(row.on_conflict_do_update(index_elements=[Worker.id], set_={"seen": now}))
            # A time in the future comes from another clock.
            silent = or_(Worker.seen < now - SILENT_SECONDS, Worker.seen > now + SILENT_SECONDS)
            session.execute(delete(Worker).where(silent))
            return session.scalar(select(func.count()).select_from(Worker)) or 1

    def leave(self) -> None:
        """Record that this worker no longer serves."""
        with self._db.connection() as connection:
            connection.execute(delete(Worker).where(Worker.id == self._id))
