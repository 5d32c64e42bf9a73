"""ccdb, as the controllers use it."""

from __future__ import annotations

from pathlib import Path

from components.common import database
from components.common.database import DatabaseUnavailableError

__all__ = ["Database", "DatabaseUnavailableError"]


class Database(database.Database):
    """ccdb; SQLite stands for it in development only, where speed counts more than a power cut.

    Args:
        url: an SQLAlchemy URL, `postgresql+psycopg://…` or `sqlite:///…`.
        connections: how many threads may use it at once.
    """

    def __init__(self, url: str, connections: int = 16) -> None:
        super().__init__(
            url,
            migrations=Path(__file__).parent / "migrations",
            locks="",
            connections=connections,
            synchronous="NORMAL",
        )
