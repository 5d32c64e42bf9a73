"""The orchestrator's own database: machines, pools and the journal of jobs."""

from __future__ import annotations

from pathlib import Path

from components.common import database
from components.common.database import DatabaseUnavailableError

__all__ = ["Database", "DatabaseUnavailableError"]


class Database(database.Database):
    """The orchestrator's database; with SQLite a journal entry that was written survives a power cut.

    Args:
        url: an SQLAlchemy URL, `sqlite:///…` or `postgresql+psycopg://…`.
        connections: how many threads may use it at once.
    """

    def __init__(self, url: str, connections: int = 16) -> None:
        super().__init__(
            url,
            migrations=Path(__file__).parent / "migrations",
            locks="ingot-orchestrator:",
            connections=connections,
        )
