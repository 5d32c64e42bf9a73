"""How many processes serve the API: what each of them may let through is a part of what the platform may."""

from __future__ import annotations

import secrets

from sqlalchemy import delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from components.controller.db.database import Database
from components.controller.db.models_records import Worker

LOOK_SECONDS = 10.0
# One that has been silent for so long is gone.
SILENT_SECONDS = 35.0


class Workers:
    """The workers of all controllers, as ccdb knows them, this one among them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._id = secrets.token_hex(16)
        self._insert = postgresql.insert if db.postgresql else sqlite.insert

    def look(self) -> int:
        """Say that this one serves; return how many do."""
        with self._db.session() as session:
            now = self._db.now(session)
            row = self._insert(Worker).values(id=self._id, seen=now)
            session.execute(row.on_conflict_do_update(index_elements=[Worker.id], set_={"seen": now}))
            # A time that is to come is one of another clock.
            silent = or_(Worker.seen < now - SILENT_SECONDS, Worker.seen > now + SILENT_SECONDS)
            session.execute(delete(Worker).where(silent))
            return session.scalar(select(func.count()).select_from(Worker)) or 1

    def leave(self) -> None:
        """Say that this one no longer serves."""
        with self._db.asking() as connection:
            connection.execute(delete(Worker).where(Worker.id == self._id))
