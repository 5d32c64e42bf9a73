"""The controllers' access to ccdb."""

from __future__ import annotations

from pathlib import Path

from components.common import database
from components.common.database import DatabaseUnavailableError

__all__ = ["Database", "DatabaseUnavailableError"]


class Database(database.Database):
    """ccdb; SQLite replaces it in development only, where speed counts more than safety from a power cut.

    Args:
        url: an SQLAlchemy URL, `postgresql+psycopg://…` or `sqlite:///…`.
        connections: the number of threads that may use it at once.
    """

    def __init__(self, url: str, connections: int = 16) -> None:
        super().__init__(
            url,
            migrations=Path(__file__).parent / "migrations",
            locks="",
            connections=connections,
            synchronous="NORMAL",
        )
